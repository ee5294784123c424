"""The worker of a queue, over SQLite."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import timedelta

import pytest

from tenfold.contracts.errors import LeaseLostError
from tenfold.path.declare import Background
from tenfold.path.queue import WorkerLimits
from tenfold.ports.records import Claimed, Cycle, Turn
from tenfold.testing.queue_suite import entry
from tests.unit.background.conftest import Crew

pytestmark = pytest.mark.anyio


async def rest(*workers: object) -> None:
    async with asyncio.timeout(10):
        for worker in workers:
            await worker.wait_resting()  # type: ignore[attr-defined]


async def test_it_works_what_waits_and_what_is_added_later(crew: Crew) -> None:
    await crew.bench.queue.add([entry(str(i)) for i in range(300)])
    worker = crew.worker()
    worker.start()
    await rest(worker)
    await crew.bench.queue.add([entry("later")])
    worker.wake()
    await rest(worker)
    assert crew.handled == [*map(str, range(300)), "later"]
    assert await crew.bench.queue.counts() == {}
    assert (worker.counts.claimed, worker.counts.done) == (301, 301)


async def test_it_sleeps_until_an_entry_falls_due(crew: Crew) -> None:
    at = crew.bench.clock.now() + timedelta(hours=1)
    await crew.bench.queue.add([entry("a", run_at=at)])
    worker = crew.worker()
    worker.start()
    await rest(worker)
    assert crew.handled == []
    crew.bench.clock.jump(3600)
    await rest(worker)
    assert crew.handled == ["a"]


async def test_lanes_run_in_order_and_beside_one_another(crew: Crew) -> None:
    running: set[str] = set()
    together: list[frozenset[str]] = []

    async def handle(entry: Claimed, fence: int) -> None:
        assert entry.lane not in running
        running.add(entry.lane or "")
        together.append(frozenset(running))
        await asyncio.sleep(0)
        running.remove(entry.lane or "")
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add([entry(f"{lane}{i}", lane=lane) for i in range(9) for lane in "ab"])
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    for lane in "ab":
        assert [n for n in crew.handled if n[0] == lane] == [f"{lane}{i}" for i in range(9)]
    assert frozenset("ab") in together


async def test_no_more_runs_are_worked_than_its_concurrency(crew: Crew) -> None:
    running = most = 0

    async def handle(entry: Claimed, fence: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    await crew.bench.queue.add([entry(str(i)) for i in range(50)])
    worker = crew.worker(handle, limits=WorkerLimits(batch=30, concurrency=4, poll_s=60))
    worker.start()
    await rest(worker)
    assert most == 4
    assert worker.counts.done == 50


async def test_after_a_failure_the_rest_of_the_lane_waits_unbegun(crew: Crew) -> None:
    failing = True

    async def handle(entry: Claimed, fence: int) -> None:
        crew.handled.append(f"{entry.message_id}.{entry.attempt}")
        if entry.message_id == "2" and failing:
            raise ValueError("not yet")

    await crew.bench.queue.add([entry(n, lane="a") for n in "123"])
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    assert crew.handled == ["1.1", "2.1"]
    found = await crew.bench.queue.entries(state="waiting", handler=None, after=0, limit=9)
    assert [(e.message_id, e.attempts, e.last_error) for e in found] == [
        ("2", 1, "ValueError: not yet"),
        ("3", 0, None),
    ]
    failing = False
    crew.bench.clock.jump(3600)
    await rest(worker)
    assert crew.handled == ["1.1", "2.1", "2.2", "3.1"]


@pytest.mark.parametrize(
    "error", [ValueError("no"), asyncio.CancelledError(), SystemExit(1), BaseException("odd")]
)
async def test_it_survives_whatever_a_handler_raises(crew: Crew, error: BaseException) -> None:
    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "bad":
            raise error
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add([entry("bad"), entry("good")])
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    for _ in range(3):
        crew.bench.clock.jump(3600)
        await rest(worker)
    assert crew.handled == ["good"]
    assert await crew.bench.queue.counts() == {"work": {"dead": 1}}
    assert (worker.counts.retried, worker.counts.dead) == (2, 1)


async def test_a_limit_of_the_handlers_own_counts_as_a_failed_attempt(crew: Crew) -> None:
    async def handle(entry: Claimed, fence: int) -> None:
        crew.handled.append(entry.message_id)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()  # as the timer of an asyncio.timeout() does, whose block was given up
        await asyncio.sleep(0)

    worker = crew.worker(handle, backgrounds={"work": Background(attempts=2, backoff_s=0)})
    await crew.bench.queue.add([entry("a", lane="x"), entry("b")])
    worker.start()
    await rest(worker)
    assert sorted(crew.handled) == ["a", "a", "b", "b"]
    assert worker.counts.dead == 2


async def test_a_dead_letter_lets_its_lane_go_on(crew: Crew) -> None:
    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "1":
            raise ValueError("never")
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add([entry("1", lane="a"), entry("2", lane="a")])
    worker = crew.worker(handle)
    worker.start()
    for _ in range(4):
        await rest(worker)
        crew.bench.clock.jump(3600)
    await rest(worker)
    assert crew.handled == ["2"]


async def test_a_projections_dead_letter_holds_its_lane_until_it_is_replayed(crew: Crew) -> None:
    broken = True

    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "1" and broken:
            raise ValueError("never")
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add(
        [entry(n, lane=n.lower()[-1], handler="view.follow") for n in ("1", "x", "y")]
    )
    await crew.bench.queue.add([entry("2", lane="1", handler="view.follow")])
    worker = crew.worker(handle)
    worker.start()
    await rest(worker)
    assert sorted(crew.handled) == ["x", "y"]
    (letter,) = await crew.bench.queue.entries(state="dead", handler=None, after=0, limit=9)
    broken = False
    await crew.bench.queue.retry([letter.id])
    worker.wake()
    await rest(worker)
    assert crew.handled[2:] == ["1", "2"]


async def test_an_unknown_handler_waits_and_counts_no_attempt(crew: Crew) -> None:
    await crew.bench.queue.add([entry("new", handler="newer"), entry("old")])
    old = crew.worker()
    old.start()
    await rest(old)
    assert crew.handled == ["old"]
    (view,) = await crew.bench.queue.entries(state="waiting", handler="newer", after=0, limit=9)
    assert view.attempts == 0
    assert "No handler 'newer'" in (view.last_error or "")
    await old.drain(1)
    new = crew.worker(backgrounds={"newer": old._parts.backgrounds["work"]})
    new.start()
    crew.bench.clock.jump(60)
    await rest(new)
    assert crew.handled == ["old", "new"]


async def test_an_entry_that_lost_its_last_attempt_is_dead_and_not_run(crew: Crew) -> None:
    await crew.bench.queue.add([entry("poison")])
    for _ in range(3):
        turn = await crew.bench.queue.cycle(Cycle(finished=[], renew=[], want=1, lease_s=30))
        assert turn.claim is not None
        await crew.bench.queue.release_claims()
    worker = crew.worker()
    worker.start()
    await rest(worker)
    assert crew.handled == []
    assert await crew.bench.queue.counts() == {"work": {"dead": 1}}


async def test_those_beside_the_cause_of_a_lost_claim_are_run_whatever_their_attempts(
    crew: Crew,
) -> None:
    await crew.bench.queue.add([entry("a"), entry("b")])
    turn = await crew.bench.queue.cycle(Cycle(finished=[], renew=[], want=9, lease_s=30))
    assert turn.claim is not None
    await crew.bench.queue.release_claims()
    worker = crew.worker(backgrounds={"work": Background(attempts=1)})
    worker.start()
    await rest(worker)
    assert crew.handled == ["a", "b"]


async def test_cancelling_a_running_entry_makes_a_dead_letter_of_it_alone(crew: Crew) -> None:
    begun = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "1":
            begun.set()
            await asyncio.Event().wait()
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add([entry("1", lane="a"), entry("2", lane="a")])
    worker = crew.worker(handle)
    worker.start()
    await begun.wait()
    (view, _) = await crew.bench.queue.entries(state="running", handler=None, after=0, limit=9)
    assert worker.cancel(view.id)
    assert not worker.cancel(999)
    await rest(worker)
    assert crew.handled == ["2"]
    letter = await crew.bench.queue.entry(view.id)
    assert letter is not None
    assert (letter.state, letter.last_error) == ("dead", "Cancelled by hand.")


async def test_draining_finishes_what_has_begun_and_returns_the_rest(crew: Crew) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        begun.set()
        await go.wait()
        crew.handled.append(entry.message_id)

    await crew.bench.queue.add([entry(n, lane="a") for n in "12"] + [entry("3")])
    worker = crew.worker(handle, limits=WorkerLimits(concurrency=1, poll_s=60))
    worker.start()
    await begun.wait()
    draining = asyncio.create_task(worker.drain(10))
    await asyncio.sleep(0)
    go.set()
    await draining
    assert crew.handled == ["1"]
    found = await crew.bench.queue.entries(state="waiting", handler=None, after=0, limit=9)
    assert [(e.message_id, e.attempts) for e in found] == [("2", 0), ("3", 0)]


async def test_what_outlasts_the_drain_is_interrupted_without_an_attempt(crew: Crew) -> None:
    begun = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        begun.set()
        await asyncio.Event().wait()

    await crew.bench.queue.add([entry("1")])
    worker = crew.worker(handle)
    worker.start()
    await begun.wait()
    await worker.drain(0.01)
    (view,) = await crew.bench.queue.entries(state="waiting", handler=None, after=0, limit=9)
    assert view.attempts == 0
    assert "Interrupted" in (view.last_error or "")


async def test_a_worker_that_stood_still_learns_that_its_claim_is_lost(crew: Crew) -> None:
    begun, go = asyncio.Event(), asyncio.Event()
    cancelled: list[str] = []

    async def handle(entry: Claimed, fence: int) -> None:
        if entry.message_id == "quick":
            begun.set()
            await go.wait()
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(entry.message_id)
            raise

    await crew.bench.queue.add([entry("quick"), entry("stuck")])
    worker = crew.worker(handle)
    worker.start()
    await begun.wait()
    # Another process ends the claim while this one holds it, and takes an entry for itself.
    other = crew.bench.another()
    await other.release_claims()
    turn = await other.cycle(Cycle(finished=[], renew=[], want=9, lease_s=30))
    assert turn.claim is not None
    assert [(e.message_id, e.alone) for e in turn.claim.entries] == [("quick", True)]
    go.set()
    async with asyncio.timeout(10):
        while not cancelled:
            await worker.moved.wait(0.01)
    assert worker.counts.lost == 2
    assert worker.counts.done == 0
    assert "work" in await crew.bench.queue.counts()


async def test_no_dead_letter_is_told_of_where_the_store_refused_a_lost_lease(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        begun.set()
        await go.wait()
        raise LeaseLostError("The lease has passed to another worker.")

    await crew.bench.queue.add([entry("once")])
    backgrounds = {"work": Background(attempts=1)}
    worker = crew.worker(handle, backgrounds=backgrounds)
    worker.start()
    await begun.wait()
    await crew.bench.another().release_claims()
    go.set()
    async with asyncio.timeout(10):
        while not worker.counts.lost:
            await worker.moved.wait(0.01)
    assert (worker.counts.dead, worker.counts.retried) == (0, 0)
    assert not [r for r in caplog.records if "dead letter" in r.getMessage()]


async def test_what_has_ended_is_kept_while_the_store_is_in_trouble(crew: Crew) -> None:
    class Flaky:
        def __init__(self, queue: object) -> None:
            self.queue = queue
            self.failures = 0

        def __getattr__(self, name: str) -> object:
            return getattr(self.queue, name)

        async def cycle(self, cycle: Cycle) -> Turn:
            if cycle.finished and self.failures < 2:
                self.failures += 1
                raise sqlite3.OperationalError("database or disk is full")
            return await crew.bench.queue.cycle(cycle)

    await crew.bench.queue.add([entry("a"), entry("b")])
    flaky = Flaky(crew.bench.queue)
    worker = crew.worker(queue=flaky)
    worker.start()
    await rest(worker)
    assert (flaky.failures, crew.handled) == (2, ["a", "b"])
    assert await crew.bench.queue.counts() == {}
    assert worker.counts.lost == 0


async def test_the_stop_counts_by_handler_and_outcome(crew: Crew) -> None:
    await crew.bench.queue.add([entry("a"), entry("b")])
    worker = crew.worker()
    worker.start()
    await rest(worker)
    (count,) = worker._parts.stop.snapshot()
    assert (count.label, count.outcome, count.count) == ("shop.work", "done", 2)


async def test_it_renews_the_lease_of_what_takes_long(crew: Crew) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        begun.set()
        await go.wait()

    await crew.bench.queue.add([entry("slow")])
    worker = crew.worker(handle)
    worker.start()
    await begun.wait()
    for _ in range(3):
        for batch in worker._batches.values():
            batch.renewed_s -= 11  # as if a third of the lease had passed on the loop's clock
        turns = worker.turns
        crew.bench.clock.jump(29)
        async with asyncio.timeout(10):
            while worker.turns == turns:
                await asyncio.sleep(0)
    go.set()
    await rest(worker)
    assert (worker.counts.done, worker.counts.lost) == (1, 0)


async def test_it_is_not_at_rest_while_it_looks_at_the_queue_by_itself(crew: Crew) -> None:
    class Watched:
        def __init__(self) -> None:
            self.resting: list[bool] = []

        def __getattr__(self, name: str) -> object:
            return getattr(crew.bench.queue, name)

        async def cycle(self, cycle: Cycle) -> Turn:
            self.resting.append(worker.resting)
            return await crew.bench.queue.cycle(cycle)

    watched = Watched()
    worker = crew.worker(queue=watched, limits=WorkerLimits(poll_s=0.001))
    worker.start()
    async with asyncio.timeout(10):
        while len(watched.resting) < 5:
            await asyncio.sleep(0)
    assert not any(watched.resting)
    await rest(worker)


async def test_it_is_not_at_rest_once_an_entry_is_due_though_its_timer_is_late(crew: Crew) -> None:
    at = crew.bench.clock.now() + timedelta(seconds=50)
    await crew.bench.queue.add([entry("a", run_at=at)])
    worker = crew.worker()
    crew.bench.clock.on_jump.clear()
    worker.start()
    await rest(worker)
    crew.bench.clock.jump(50)
    assert not worker.resting
    await rest(worker)
    assert crew.handled == ["a"]
