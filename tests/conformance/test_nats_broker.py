"""The broker on NATS JetStream passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from tenfold.adapters.nats.connection import Connection
from tenfold.adapters.nats.words import stream_of
from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.bench import ServerBench
from tests.servers import OwnNats


class NatsBench(ServerBench):
    server: OwnNats

    async def trim(self, topic: str, partition: int, before: int) -> None:
        connection = Connection(self.server.url, 5.0)
        try:
            question = {"seq": before + 1}
            await connection.api(f"STREAM.PURGE.{stream_of(topic, partition)}", question)
        finally:
            await connection.close()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture(scope="module")
def nats(own_nats: Callable[..., OwnNats]) -> OwnNats:
    return own_nats()


@pytest.fixture
async def bench(nats: OwnNats) -> AsyncIterator[NatsBench]:
    made = NatsBench(nats, timeout_s=2.0)
    yield made
    await made.close()


class TestTopics(broker_suite.TopicCases):
    pass


class TestRecords(broker_suite.RecordCases):
    pass


class TestBounds(broker_suite.BoundsCases):
    pass


class TestReaders(broker_reader_suite.ReaderCases):
    pass


class TestAway(broker_away_suite.AwayCases):
    pass
