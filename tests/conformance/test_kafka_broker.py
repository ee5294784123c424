"""The broker on Apache Kafka passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.bench import LaunchedBench
from tests.brokers.servers import BrokerServer, kafka_server


class KafkaBench(LaunchedBench):
    async def trim(self, topic: str, partition: int, before: int) -> None:
        admin = AdminClient({"bootstrap.servers": self.server.url.partition("://")[2]})
        place = TopicPartition(topic, partition, before)
        for future in admin.delete_records([place]).values():
            await asyncio.wrap_future(future)


@pytest.fixture(scope="module")
def kafka() -> Iterator[BrokerServer]:
    with kafka_server() as server:
        yield server


@pytest.fixture
async def bench(kafka: BrokerServer) -> AsyncIterator[KafkaBench]:
    made = KafkaBench(kafka)
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
