"""What every broker must do when its server dies: the conformance cases of the port.

An adapter's test file subclasses the class below and gives a fixture `bench`, as for
`broker_suite`.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tenfold.contracts.errors import Outcome
from tenfold.ports.broker import Broker, BrokerUnavailableError, Reader
from tenfold.testing.broker_suite import TWO, BrokerBench, bodies, fill, made, read, read_all

__all__ = ["AwayCases"]

PATIENCE_S = 60.0
"""How long a broker is waited for that was just started again."""


@pytest.mark.anyio
class AwayCases:
    """A broker that crashes comes back with what it had told, and its clients find it again."""

    async def test_nobody_waits_for_one_that_is_away(self, bench: BrokerBench) -> None:
        if not bench.restarts:
            pytest.skip("it cannot be stopped")
        broker, topic = await made(bench)
        await fill(broker, topic, 0, ["before"])
        reader = await broker.reader(topic, [0, 0])
        assert bodies(await read(reader, 1)) == ["before"]
        closing = await bench.open()
        await closing.bounds(topic)  # it is connected
        await bench.stop()
        try:
            async with asyncio.timeout(45):
                told = await asyncio.gather(
                    broker.append(topic, 0, {}, b"lost"),
                    broker.bounds(topic),
                    broker.offsets_at(topic, datetime.now(UTC)),
                    broker.ensure(bench.topic(), TWO),
                    self._take_until_told(reader),
                    return_exceptions=True,
                )
            assert [type(each) for each in told] == [BrokerUnavailableError] * 5
            assert isinstance(told[0], BrokerUnavailableError)
            assert told[0].outcome is Outcome.MAYBE_DONE
            async with asyncio.timeout(15):
                await closing.close()
        finally:
            await bench.start()
        await self._append_again(broker, topic, "after")
        found = bodies([each for each in await read(reader, 1) if each.body != b"lost"])
        while not found:
            found = bodies(await read(reader, 1))
        assert set(found) == {"after"}
        await reader.close()

    async def _take_until_told(self, reader: Reader) -> None:
        while True:
            assert not await reader.take(wait_s=30)

    async def _append_again(self, broker: Broker, topic: str, body: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    await broker.append(topic, 0, {}, body.encode())
                except BrokerUnavailableError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def test_what_was_told_under_load_is_all_there_in_its_order(
        self, bench: BrokerBench
    ) -> None:
        if not bench.restarts:
            pytest.skip("it cannot be stopped")
        broker, topic = await made(bench)
        another = await bench.open()
        reader = await another.reader(topic, [0, 0])
        told: list[str] = []
        enough, progress = asyncio.Event(), asyncio.Event()

        async def append() -> None:
            # Each is repeated until it is told, and only then comes the next.
            number = 0
            while not enough.is_set():
                await self._append_again(broker, topic, str(number))
                told.append(str(number))
                progress.set()
                number += 1

        heard: list[str] = []

        async def hear() -> None:
            while not (enough.is_set() and told and told[-1] in heard):
                try:
                    heard.extend(bodies(await reader.take(wait_s=0.5)))
                except BrokerUnavailableError:
                    await asyncio.sleep(0.05)

        appending, hearing = asyncio.create_task(append()), asyncio.create_task(hear())
        async with asyncio.timeout(PATIENCE_S):
            await self._until(told, 50, progress)
            await bench.stop()
            await bench.start()
            await self._until(told, len(told) + 50, progress)
            enough.set()
            await asyncio.gather(appending, hearing)
        kept = bodies(await read_all(another, topic), 0)
        # What is there, less repetitions of one that was not told at first, is what was told;
        # and a reader has heard exactly what is there.
        assert list(dict.fromkeys(kept)) == told
        assert heard == kept[: len(heard)]
        await reader.close()

    async def _until(self, told: list[str], count: int, progress: asyncio.Event) -> None:
        while len(told) < count:
            progress.clear()
            await progress.wait()
