"""The broker on RabbitMQ's streams passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.bench import LaunchedBench
from tests.brokers.servers import BrokerServer, rabbitmq_server

_WRITTEN_S = 3.0


class RabbitBench(LaunchedBench):
    trims = False
    too_large_bytes = 5_000_000

    async def trim(self, topic: str, partition: int, before: int) -> None:
        raise AssertionError("they leave by whole segments")

    async def stop(self) -> None:
        # What streams there are is on the disk only some time after they were made.
        await asyncio.sleep(_WRITTEN_S)
        await super().stop()


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[BrokerServer]:
    with rabbitmq_server() as server:
        yield server


@pytest.fixture
async def bench(rabbitmq: BrokerServer) -> AsyncIterator[RabbitBench]:
    made = RabbitBench(rabbitmq)
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
