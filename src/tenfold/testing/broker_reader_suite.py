"""What every reader of a broker must do: the conformance cases of the port.

An adapter's test file subclasses the class below and gives a fixture `bench`, as for
`broker_suite`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tenfold.ports.broker import Broker, BrokerUnavailableError, Record, TopicSettings
from tenfold.testing.broker_suite import (
    BrokerBench,
    bodies,
    fill,
    made,
    numbers,
    read,
    read_all,
)

__all__ = ["ReaderCases"]

PATIENCE_S = 60.0


@pytest.mark.anyio
class ReaderCases:
    """A reader has its own place, and loses and doubles nothing."""

    async def test_it_reads_from_any_offset_on(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        for partition in (0, 1):
            await fill(broker, topic, partition, numbers(12))
        found = await read_all(broker, topic)
        offsets = [[e.offset for e in found if e.partition == n] for n in (0, 1)]
        reader = await broker.reader(topic, [offsets[0][5], offsets[1][11]])
        some = await read(reader, 8)
        assert bodies(some, 0) == numbers(7, 5)
        assert bodies(some, 1) == ["11"]
        await reader.close()

    async def test_what_is_not_kept_any_more_counts_as_the_first_that_is(
        self, bench: BrokerBench
    ) -> None:
        if not bench.trims:
            pytest.skip("its records cannot be made to be forgotten")
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(10))
        offsets = [each.offset for each in await read_all(broker, topic)]
        await bench.trim(topic, 0, offsets[6])
        reader = await broker.reader(topic, [offsets[1], 0])
        assert bodies(await read(reader, 4)) == numbers(4, 6)
        await reader.close()

    async def test_one_at_the_end_gets_what_is_appended_while_it_waits(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench)
        another = await bench.open()
        await fill(broker, topic, 0, ["old"])
        bounds = await broker.bounds(topic)
        reader = await broker.reader(topic, [each.after for each in bounds])
        waiting = asyncio.create_task(read(reader, 1))
        assert list(await asyncio.wait_for(asyncio.shield(self._short(broker, topic)), 20)) == []
        await fill(another, topic, 0, ["new"])
        assert bodies(await waiting) == ["new"]
        await reader.close()

    async def _short(self, broker: Broker, topic: str) -> Sequence[Record]:
        bounds = await broker.bounds(topic)
        reader = await broker.reader(topic, [each.after for each in bounds])
        try:
            return await reader.take(wait_s=0.2)
        finally:
            await reader.close()

    async def test_it_waits_no_longer_than_asked(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        reader = await broker.reader(topic, [0, 0])
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert list(await reader.take(wait_s=0.3)) == []
        assert 0.25 < loop.time() - began < 10
        await reader.close()

    async def test_no_more_are_given_than_asked_for(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(10))
        reader = await broker.reader(topic, [0, 0])
        found: list[Record] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < 10:
                some = await reader.take(wait_s=1.0, most=3)
                assert len(some) <= 3
                found += some
        assert bodies(found) == numbers(10)
        await reader.close()

    async def test_two_readers_have_nothing_to_do_with_one_another(
        self, bench: BrokerBench
    ) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, numbers(9))
        first, second = [await broker.reader(topic, [0, 0]) for _ in range(2)]
        assert bodies(await read(first, 9)) == numbers(9)
        await first.close()
        assert bodies(await read(second, 9)) == numbers(9)
        await second.close()

    async def test_a_cancelled_call_loses_nothing(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        another = await bench.open()
        reader = await broker.reader(topic, [0, 0])
        found: list[Record] = []
        appending = asyncio.create_task(fill(another, topic, 0, numbers(150)))
        async with asyncio.timeout(PATIENCE_S):
            step = 0
            while len(found) < 150:
                step += 1
                taking = asyncio.create_task(reader.take(wait_s=1.0, most=4))
                for _ in range(step % 7):  # it is interrupted at another place each time
                    await asyncio.sleep(0)
                if step % 3:
                    await asyncio.sleep(0.002)
                taking.cancel()
                await asyncio.wait([taking])
                if not taking.cancelled():
                    found += taking.result()
                found += await reader.take(wait_s=0.01, most=2)
        await appending
        assert bodies(found) == numbers(150)
        await reader.close()

    async def test_what_nobody_takes_is_not_all_held(self, bench: BrokerBench) -> None:
        # More than a reader may hold lies there; whoever begins to take gets all of it.
        broker, topic = await made(bench, TopicSettings(partitions=1))
        body = bytes(400_000)
        await asyncio.gather(*(broker.append(topic, 0, {}, body) for _ in range(60)))
        reader = await broker.reader(topic, [0])
        offsets = [each.offset for each in await reader.take(wait_s=10, most=1)]
        await asyncio.sleep(0.2)
        offsets += [each.offset for each in await read(reader, 60 - len(offsets))]
        assert len(offsets) == len(set(offsets)) == 60
        assert offsets == sorted(offsets)
        await reader.close()

    async def test_closing_twice_is_closing(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        await fill(broker, topic, 0, ["one"])
        reader = await broker.reader(topic, [0, 0])
        await read(reader, 1)
        await reader.close()
        await reader.close()
        with pytest.raises(BrokerUnavailableError):
            await reader.take(wait_s=0.1)
        unused = await broker.reader(topic, [0, 0])
        await unused.close()
        await broker.close()
        await broker.close()

    async def test_no_task_and_no_thread_is_left_of_what_was_closed(
        self, bench: BrokerBench
    ) -> None:
        tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
        broker, topic = await made(bench)
        await fill(broker, topic, 0, ["one", "two"])
        reader = await broker.reader(topic, [0, 0])
        await read(reader, 1)
        waiting = await broker.reader(topic, [each.after for each in await broker.bounds(topic)])
        taking = asyncio.create_task(waiting.take(wait_s=30, most=1))
        await asyncio.sleep(0.1)
        for each in (reader, waiting, broker):
            await each.close()
        await asyncio.wait([taking])
        assert isinstance(taking.exception(), BrokerUnavailableError)
        taking = None  # type: ignore[assignment]
        async with asyncio.timeout(15):
            while True:
                # The loop's own threads for blocking work stay with the loop.
                new = [e for e in threading.enumerate() if e.name[:7] not in ("asyncio", "uvloop_")]
                if threads.issuperset(new) and asyncio.all_tasks() <= tasks:
                    return
                await asyncio.sleep(0.01)

    async def test_a_broker_closes_while_a_reader_waits(self, bench: BrokerBench) -> None:
        broker, topic = await made(bench)
        reader = await broker.reader(topic, [0, 0])
        taking = asyncio.create_task(reader.take(wait_s=30))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(15):
            await reader.close()
            with pytest.raises(BrokerUnavailableError):
                await taking
            await broker.close()
