"""The broker on Apache Kafka passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tenfold.adapters.kafka.broker import KafkaBroker
from tenfold.ports.broker import TopicSettings
from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.servers import BrokerServer, kafka_server

_TIMEOUT_S = 5.0


class KafkaBench:
    trims = True
    restarts = True
    too_large_bytes = 1_100_000

    def __init__(self, server: BrokerServer | None, url: str) -> None:
        self.server, self.url = server, url
        self.restarts = server is not None
        self.made: list[KafkaBroker] = []

    def topic(self) -> str:
        return f"t{secrets.token_hex(6)}"

    async def open(self) -> KafkaBroker:
        self.made.append(KafkaBroker(self.url, timeout_s=_TIMEOUT_S))
        return self.made[-1]

    async def trim(self, topic: str, partition: int, before: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.url.partition("://")[2]})
        place = TopicPartition(topic, partition, before)
        for future in admin.delete_records([place]).values():
            await asyncio.wrap_future(future)

    async def stop(self) -> None:
        assert self.server is not None
        self.server.kill()

    async def start(self) -> None:
        assert self.server is not None
        self.server.launch()
        await asyncio.to_thread(self.server.wait)
        # It listens before it can do everything.
        asking = KafkaBroker(self.url, timeout_s=60.0)
        await asking.ensure(self.topic(), TopicSettings(partitions=1))
        await asking.close()

    async def close(self) -> None:
        for made in self.made:
            await made.close()


@pytest.fixture(scope="module")
def kafka() -> Iterator[BrokerServer | None]:
    if "TENFOLD_TEST_KAFKA_URL" in os.environ:
        yield None
        return
    with kafka_server() as server:
        yield server


@pytest.fixture
async def bench(kafka: BrokerServer | None) -> AsyncIterator[KafkaBench]:
    url = kafka.url if kafka is not None else os.environ["TENFOLD_TEST_KAFKA_URL"]
    made = KafkaBench(kafka, url)
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
