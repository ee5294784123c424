"""The broker in process passes the suite."""

from __future__ import annotations

import pytest

from tenfold.adapters.memory.broker import MemoryBroker
from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite


class MemoryBench:
    trims = True
    restarts = False
    too_large_bytes = 16 * 1024 * 1024 + 1

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.topics = 0

    def topic(self) -> str:
        self.topics += 1
        return f"topic-{self.topics}"

    async def open(self) -> MemoryBroker:
        return self.broker

    async def trim(self, topic: str, partition: int, before: int) -> None:
        self.broker.trim(topic, partition, before)

    async def stop(self) -> None:
        raise AssertionError("it cannot be stopped")

    async def start(self) -> None:
        raise AssertionError("it cannot be started")


@pytest.fixture
def bench() -> MemoryBench:
    return MemoryBench()


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
