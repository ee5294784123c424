"""What a worker's runs cost, and how its turns follow them."""

from __future__ import annotations

import asyncio
import time

import pytest

from tenfold.path import runs
from tenfold.path.queue import WorkerLimits
from tenfold.ports.records import Claimed, Cycle, Turn
from tenfold.testing.queue_suite import entry
from tests.unit.background.conftest import Crew
from tests.unit.background.test_worker import rest

pytestmark = pytest.mark.anyio


async def test_runs_that_wait_for_nothing_share_a_task(crew: Crew) -> None:
    tasks: set[int] = set()

    async def handle(entry: Claimed, fence: int) -> None:
        tasks.add(id(asyncio.current_task()))

    await crew.bench.queue.add([entry(str(n)) for n in range(200)])
    runs_before = len(asyncio.all_tasks())
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    assert worker.counts.done == 200
    assert len(tasks) < 40
    assert len(asyncio.all_tasks()) <= runs_before + 1


async def test_a_run_that_waits_does_not_keep_others_waiting(crew: Crew) -> None:
    go = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "slow":
            await go.wait()
        crew.handled.append(entry.message_id)
        if len(crew.handled) == 20:
            go.set()

    await crew.bench.queue.add([entry("slow"), *(entry(str(n)) for n in range(20))])
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    assert crew.handled == [*map(str, range(20)), "slow"]


async def test_runs_that_wait_for_nothing_let_the_loop_have_its_turns(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "SLICE_S", -1.0)  # as if each run took as long as a slice
    beside: list[int] = []

    async def handle(entry: Claimed, fence: int) -> None:
        crew.handled.append(entry.message_id)

    async def watch() -> None:
        while len(crew.handled) < 30:
            beside.append(len(crew.handled))
            await asyncio.sleep(0)

    await crew.bench.queue.add([entry(str(n)) for n in range(30)])
    worker = crew.worker(handle)
    worker.start()
    await asyncio.gather(watch(), rest(worker))
    assert len(set(beside)) > 10


async def test_the_next_claim_is_fetched_while_one_is_worked(crew: Crew) -> None:
    begun = asyncio.Event()
    go = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        if int(entry.message_id) >= 40:
            begun.set()
        await go.wait()

    await crew.bench.queue.add([entry(str(n)) for n in range(60)])
    worker = crew.worker(handle, limits=WorkerLimits(batch=40, concurrency=50, poll_s=60))
    worker.start()
    async with asyncio.timeout(10):
        await begun.wait()
    go.set()
    await rest(worker)
    assert worker.counts.done == 60


async def test_what_has_ended_is_recorded_though_another_of_its_batch_goes_on(
    crew: Crew,
) -> None:
    go = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "slow":
            await go.wait()

    await crew.bench.queue.add([entry("slow"), entry("quick")])
    worker = crew.worker(handle)
    worker.start()
    async with asyncio.timeout(10):
        while worker.counts.done == 0:
            await worker.moved.wait(1)
    assert await crew.bench.queue.counts() == {"work": {"running": 1}}
    go.set()
    await rest(worker)


async def test_ends_gather_into_few_turns(crew: Crew) -> None:
    class Counted:
        finishing = 0

        def __getattr__(self, name: str) -> object:
            return getattr(crew.bench.queue, name)

        async def cycle(self, cycle: Cycle) -> Turn:
            self.finishing += bool(cycle.finished)
            return await crew.bench.queue.cycle(cycle)

    async def handle(entry: Claimed, fence: int) -> None:
        await asyncio.sleep(0.001 * (int(entry.message_id) % 8))

    counted = Counted()
    await crew.bench.queue.add([entry(str(n)) for n in range(400)])
    worker = crew.worker(handle, queue=counted)
    worker.start()
    began = time.perf_counter()
    await rest(worker)
    assert worker.counts.done == 400
    assert counted.finishing <= 20 + (time.perf_counter() - began) * 200
