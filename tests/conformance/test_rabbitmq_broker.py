"""The broker on RabbitMQ's streams passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from tenfold.adapters.rabbitmq.broker import RabbitBroker
from tenfold.ports.broker import TopicSettings
from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.servers import BrokerServer, rabbitmq_server

_TIMEOUT_S = 5.0
_WRITTEN_S = 3.0


class RabbitBench:
    trims = False
    restarts = True
    too_large_bytes = 5_000_000

    def __init__(self, server: BrokerServer | None, url: str) -> None:
        self.server, self.url = server, url
        self.restarts = server is not None
        self.made: list[RabbitBroker] = []

    def topic(self) -> str:
        return f"t{secrets.token_hex(6)}"

    async def open(self) -> RabbitBroker:
        self.made.append(RabbitBroker(self.url, timeout_s=_TIMEOUT_S))
        return self.made[-1]

    async def trim(self, topic: str, partition: int, before: int) -> None:
        raise AssertionError("they leave by whole segments")

    async def stop(self) -> None:
        assert self.server is not None
        # What streams there are is on the disk only some time after they were made.
        await asyncio.sleep(_WRITTEN_S)
        self.server.kill()

    async def start(self) -> None:
        assert self.server is not None
        self.server.launch()
        await asyncio.to_thread(self.server.wait)
        # It listens before it can do everything.
        asking = RabbitBroker(self.url, timeout_s=60.0)
        await asking.ensure(self.topic(), TopicSettings(partitions=1))
        await asking.close()

    async def close(self) -> None:
        for made in self.made:
            await made.close()


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[BrokerServer | None]:
    if "TENFOLD_TEST_RABBITMQ_URL" in os.environ:
        yield None
        return
    with rabbitmq_server() as server:
        yield server


@pytest.fixture
async def bench(rabbitmq: BrokerServer | None) -> AsyncIterator[RabbitBench]:
    url = rabbitmq.url if rabbitmq is not None else os.environ["TENFOLD_TEST_RABBITMQ_URL"]
    made = RabbitBench(rabbitmq, url)
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
