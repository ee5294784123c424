"""What every broker must do: the conformance cases of the port.

An adapter's test file subclasses the classes below and gives a fixture `bench`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from tenfold.ports.broker import (
    Bounds,
    Broker,
    BrokerUnavailableError,
    Reader,
    Record,
    TopicSettings,
)

__all__ = [
    "BoundsCases",
    "BrokerBench",
    "RecordCases",
    "TopicCases",
    "TWO",
    "bodies",
    "fill",
    "made",
    "numbers",
    "read",
    "read_all",
]

TWO = TopicSettings(partitions=2)
PATIENCE_S = 60.0
"""How long a broker is waited for that was just started again."""


class BrokerBench(Protocol):
    """What an adapter's tests hand to the cases.

    `trims` is that records can be made to be forgotten; `restarts`, that the server can
    be stopped and started. `too_large_bytes` is a body that it does not take.
    """

    trims: bool
    restarts: bool
    too_large_bytes: int

    def topic(self) -> str:
        """A name that no topic has."""
        ...

    async def open(self) -> Broker:
        """A connection of its own, as another process has it. The bench closes it in the end."""
        ...

    async def trim(self, topic: str, partition: int, before: int) -> None:
        """Forget the records of a partition below an offset, as the broker does by age."""
        ...

    async def stop(self) -> None:
        """Kill the server, as a crash does; returns when it is gone."""
        ...

    async def start(self) -> None:
        """Start it again on its data, at its address; returns when it answers."""
        ...


async def made(bench: BrokerBench, settings: TopicSettings = TWO) -> tuple[Broker, str]:
    """A connection, and a new topic."""
    broker, topic = await bench.open(), bench.topic()
    await broker.ensure(topic, settings)
    return broker, topic


async def fill(broker: Broker, topic: str, partition: int, bodies: Sequence[str]) -> None:
    """Append one after the other."""
    for body in bodies:
        await broker.append(topic, partition, {}, body.encode())


async def read(reader: Reader, count: int) -> list[Record]:
    """So many records, or more if they come together."""
    found: list[Record] = []
    async with asyncio.timeout(PATIENCE_S):
        while len(found) < count:
            found += await reader.take(wait_s=1.0)
    return found


async def read_all(broker: Broker, topic: str) -> list[Record]:
    """Everything that a topic has."""
    bounds = await broker.bounds(topic)
    reader = await broker.reader(topic, [each.first for each in bounds])
    ends = {n: each.after for n, each in enumerate(bounds) if each.after > each.first}
    found: list[Record] = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while ends:
                for record in await reader.take(wait_s=1.0):
                    found.append(record)
                    if record.offset + 1 >= ends.get(record.partition, 0):
                        ends.pop(record.partition, None)
    finally:
        await reader.close()
    return found


def bodies(records: Sequence[Record], partition: int | None = None) -> list[str]:
    """What records say, in order."""
    wanted = [each for each in records if partition is None or each.partition == partition]
    return [each.body.decode() for each in wanted]


def numbers(count: int, start: int = 0) -> list[str]:
    """`0`, `1`, `2` and so on."""
    return [str(number) for number in range(start, start + count)]


@pytest.mark.anyio
class TopicCases:
    """Topics are made once."""

    async def test_a_topic_is_made_with_its_partitions(self, bench: BrokerBench) -> None:
        broker = await bench.open()
        assert await broker.ensure(bench.topic(), TopicSettings(partitions=3)) == 3

    async def test_one_that_is_there_is_left_as_it_is(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 1, ["kept"])
        another = await bench.open()
        assert await another.ensure(topic, TopicSettings(partitions=5, retain_s=60.0)) == 2
        assert bodies(await read_all(another, topic)) == ["kept"]

    async def test_several_make_it_at_once(self, bench: BrokerBench) -> None:
        topic = bench.topic()
        brokers = [await bench.open() for _ in range(4)]
        settings = [TopicSettings(partitions=n) for n in (3, 3, 2, 4)]
        counts = await asyncio.gather(
            *(b.ensure(topic, s) for b, s in zip(brokers, settings, strict=True))
        )
        assert len(set(counts)) == 1
        await fill(brokers[0], topic, counts[0] - 1, ["one"])
        assert bodies(await read_all(brokers[3], topic)) == ["one"]

    async def test_topics_with_names_alike_do_not_meet(self, bench: BrokerBench) -> None:
        broker, start = await bench.open(), bench.topic()
        names = [start, f"{start}.1", f"{start}-1", f"{start}.1.0", f"{start}_2", f"{start}-1-0"]
        for name in names:
            await broker.ensure(name, TWO)
            await fill(broker, name, 1, [name])
        for name in names:
            assert bodies(await read_all(broker, name)) == [name]

    async def test_more_replicas_than_servers_are_as_many_as_there_are(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench, TopicSettings(partitions=1, replicas=3))
        await fill(broker, topic, 0, ["kept"])
        assert bodies(await read_all(broker, topic)) == ["kept"]

    async def test_a_topic_that_is_not_there_is_said(self, bench: BrokerBench) -> None:
        broker, topic = await bench.open(), bench.topic()
        with pytest.raises(BrokerUnavailableError, match=topic):
            await broker.append(topic, 0, {}, b"x")
        with pytest.raises(BrokerUnavailableError, match=topic):
            await broker.bounds(topic)
        with pytest.raises(BrokerUnavailableError, match=topic):
            await broker.reader(topic, [0])

    async def test_a_partition_that_is_not_there_is_said(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        with pytest.raises(BrokerUnavailableError, match=topic):
            await broker.append(topic, 2, {}, b"x")


@pytest.mark.anyio
class RecordCases:
    """What is appended is read, as it was and in its order."""

    async def test_a_partitions_records_come_in_the_order_of_their_appends(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench)
        for number in numbers(60):
            await fill(broker, topic, int(number) % 2, [number])
        found = await read_all(broker, topic)
        assert bodies(found, 0) == numbers(60)[::2]
        assert bodies(found, 1) == numbers(60)[1::2]
        for partition in (0, 1):
            offsets = [each.offset for each in found if each.partition == partition]
            assert offsets == sorted(set(offsets))

    async def test_what_two_connections_append_by_turns_stays_in_order(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench)
        another = await bench.open()
        for number in range(0, 20, 2):
            await fill(broker, topic, 0, [str(number)])
            await fill(another, topic, 0, [str(number + 1)])
        assert bodies(await read_all(broker, topic)) == numbers(20)

    async def test_many_at_once_are_all_kept_once(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await asyncio.gather(
            *(broker.append(topic, n % 2, {}, str(n).encode()) for n in range(500))
        )
        found = await read_all(broker, topic)
        assert sorted(bodies(found), key=int) == numbers(500)
        assert all(int(each.body) % 2 == each.partition for each in found)

    async def test_any_bytes_are_kept_as_they_are(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        wanted = [bytes(range(256)) * 16, b"", b"\r\n\r\n", b"\x00" * 7]
        for body in wanted:
            await broker.append(topic, 0, {}, body)
        assert [each.body for each in await read_all(broker, topic)] == wanted

    async def test_a_body_of_the_largest_size_is_kept(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        body = bytes(range(250)) * (TWO.max_record_bytes // 250)
        for _ in range(12):
            await broker.append(topic, 0, {"content-type": "x" * 200}, body)
        found = await read_all(broker, topic)
        assert [each.body == body for each in found] == [True] * 12

    async def test_a_larger_one_is_refused_and_the_next_is_taken(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, ["before"])
        with pytest.raises(ValueError, match=topic):
            await broker.append(topic, 0, {}, bytes(bench.too_large_bytes))
        await fill(broker, topic, 0, ["after"])
        assert bodies(await read_all(broker, topic)) == ["before", "after"]

    async def test_headers_are_any_text(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        headers = {
            "content-type": "application/cloudevents-batch+json; charset=utf-8",
            "with_line": "a\r\nb: c\n\td",
            "text": 'Grüße, 東京 🫖 100% "so" %41',
            "edges": "  two before, two after  ",
            "empty": "",
            "X-Case-1": "Kept",
            "long": "é" * 3_000,
        }
        await broker.append(topic, 0, headers, b"x")
        await broker.append(topic, 0, {}, b"y")
        first, second = await read_all(broker, topic)
        assert first.headers == headers
        assert second.headers == {}

    async def test_a_record_says_when_it_was_appended(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(3))
        found = await read_all(broker, topic)
        times = [each.at for each in found]
        assert times == sorted(times)
        assert all(each.tzinfo is not None for each in times)
        assert abs(times[0] - times[-1]) < timedelta(seconds=60)


@pytest.mark.anyio
class BoundsCases:
    """Where a log begins and ends, and where a moment lies in it."""

    async def test_one_that_never_had_a_record_is_from_0_to_0(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        for _ in range(3):
            assert await broker.bounds(topic) == [Bounds(first=0, after=0)] * 2

    async def test_they_are_those_of_what_can_be_read(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        another = await bench.open()
        for count in (1, 2, 40):
            await fill(broker, topic, 1, numbers(count))
            empty, bounds = await another.bounds(topic)
            assert empty == Bounds(first=0, after=0)
            offsets = [each.offset for each in await read_all(another, topic)]
            assert (offsets[0], offsets[-1] + 1) == (bounds.first, bounds.after)

    async def test_the_newest_is_read_before_the_end(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(7))
        await fill(broker, topic, 1, ["other"])
        bounds = await broker.bounds(topic)
        reader = await broker.reader(topic, [each.after - 1 for each in bounds])
        assert sorted(bodies(await read(reader, 2))) == ["6", "other"]
        await reader.close()

    async def test_what_is_forgotten_is_before_them(self, bench: BrokerBench) -> None:
        if not bench.trims:
            pytest.skip("its records cannot be made to be forgotten")
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(10))
        offsets = [each.offset for each in await read_all(broker, topic)]
        await bench.trim(topic, 0, offsets[4])
        bounds = (await broker.bounds(topic))[0]
        assert bounds.after == offsets[-1] + 1
        assert bodies(await read_all(broker, topic)) == numbers(6, 4)
        assert bounds.first == offsets[4]

    async def test_one_that_has_forgotten_all_is_not_from_0_to_0(self, bench: BrokerBench) -> None:
        if not bench.trims:
            pytest.skip("its records cannot be made to be forgotten")
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(5))
        end = (await broker.bounds(topic))[0].after
        await bench.trim(topic, 0, end)
        assert (await broker.bounds(topic))[0] == Bounds(first=end, after=end)
        await fill(broker, topic, 0, ["next"])
        assert [each.offset >= end for each in await read_all(broker, topic)] == [True]

    async def test_a_moment_is_found(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        for number in numbers(4):
            await fill(broker, topic, 0, [number])
            await asyncio.sleep(0.02)  # so that moments differ, however coarsely they are kept
        found = await read_all(broker, topic)
        for each in found:
            first = next(one for one in found if one.at >= each.at)
            assert (await broker.offsets_at(topic, each.at))[0] == first.offset

    async def test_a_moment_between_two_is_the_second(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, ["before"])
        await asyncio.sleep(0.05)
        await fill(broker, topic, 0, ["after"])
        before, after = await read_all(broker, topic)
        assert after.at > before.at
        moment = before.at + (after.at - before.at) / 2
        assert (await broker.offsets_at(topic, moment))[0] == after.offset

    async def test_a_moment_before_all_is_the_first_and_one_after_all_the_next(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 1, numbers(3))
        bounds = await broker.bounds(topic)
        long_ago, far = datetime(2001, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)
        assert list(await broker.offsets_at(topic, long_ago)) == [each.first for each in bounds]
        assert list(await broker.offsets_at(topic, far)) == [each.after for each in bounds]
