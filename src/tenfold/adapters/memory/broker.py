"""A broker inside one process: for tests, and as the plainest thing that the port can mean."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime

from tenfold.ports.broker import Bounds, BrokerUnavailableError, Record, TopicSettings
from tenfold.ports.clock import Clock, SystemClock

__all__ = ["MemoryBroker"]


class _Topic:
    """The partitions of one topic. `floors` are the offsets of the first kept records."""

    def __init__(self, settings: TopicSettings) -> None:
        self.logs: list[list[Record]] = [[] for _ in range(settings.partitions)]
        self.floors = [0] * settings.partitions
        self.max_record_bytes = settings.max_record_bytes
        self.added = asyncio.Event()

    def wake(self) -> None:
        """Tell all who wait, and begin anew."""
        self.added.set()
        self.added = asyncio.Event()


class MemoryBroker:
    """Implements `Broker`. All of it ends with the process."""

    kind = "memory"

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._topics: dict[str, _Topic] = {}

    async def ensure(self, topic: str, settings: TopicSettings) -> int:
        """See `Broker.ensure`."""
        found = self._topics.get(topic)
        if found is None:
            found = self._topics[topic] = _Topic(settings)
        return len(found.logs)

    async def append(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """See `Broker.append`."""
        found = self._topic(topic)
        if partition >= len(found.logs):
            raise BrokerUnavailableError(
                f"Topic {topic!r} has {len(found.logs)} partitions, and no number {partition}. "
                "Nothing was appended. Ask `ensure` how many it has."
            )
        if len(body) > found.max_record_bytes:
            raise ValueError(
                f"A record of {len(body)} bytes for topic {topic!r} is larger than its "
                f"{found.max_record_bytes}. Nothing was appended."
            )
        log = found.logs[partition]
        offset = found.floors[partition] + len(log)
        at = self._clock.now()
        log.append(
            Record(partition=partition, offset=offset, at=at, headers=dict(headers), body=body)
        )
        found.wake()

    async def bounds(self, topic: str) -> Sequence[Bounds]:
        """See `Broker.bounds`."""
        found = self._topic(topic)
        return [
            Bounds(first=floor, after=floor + len(log))
            for floor, log in zip(found.floors, found.logs, strict=True)
        ]

    async def offsets_at(self, topic: str, at: datetime) -> Sequence[int]:
        """See `Broker.offsets_at`."""
        found = self._topic(topic)
        return [
            floor + bisect_left(log, at, key=lambda record: record.at)
            for floor, log in zip(found.floors, found.logs, strict=True)
        ]

    async def reader(self, topic: str, offsets: Sequence[int]) -> MemoryReader:
        """See `Broker.reader`."""
        return MemoryReader(self._topic(topic), offsets)

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Forget the records of a partition below an offset, as a broker does by age."""
        found = self._topic(topic)
        count = max(before - found.floors[partition], 0)
        count = min(count, len(found.logs[partition]))
        del found.logs[partition][:count]
        found.floors[partition] += count

    async def close(self) -> None:
        """See `Broker.close`: there is nothing to end."""

    def _topic(self, topic: str) -> _Topic:
        found = self._topics.get(topic)
        if found is None:
            raise BrokerUnavailableError(
                f"There is no topic {topic!r}. Nothing was done. Make it with `ensure`."
            )
        return found


class MemoryReader:
    """Implements `Reader`."""

    def __init__(self, topic: _Topic, offsets: Sequence[int]) -> None:
        self._topic = topic
        self._offsets = list(offsets)
        self._closed = False

    async def take(self, *, wait_s: float, most: int = 500) -> Sequence[Record]:
        """See `Reader.take`."""
        try:
            async with asyncio.timeout(wait_s):
                while self._closed or not (found := self._next(most)):
                    if self._closed:
                        raise BrokerUnavailableError("The reader was closed.")
                    await self._topic.added.wait()
        except TimeoutError:
            return []
        return found

    async def close(self) -> None:
        """See `Reader.close`."""
        self._closed = True
        self._topic.wake()

    def _next(self, most: int) -> list[Record]:
        found: list[Record] = []
        for partition, offset in enumerate(self._offsets):
            log = self._topic.logs[partition]
            start = max(offset - self._topic.floors[partition], 0)
            taken = log[start : start + most - len(found)]
            if taken:
                self._offsets[partition] = taken[-1].offset + 1
                found += taken
        return found
