"""A queue against a model, whatever two workers do in whatever order.

An adapter's test subclasses `QueueStates`, says in `open_bench` how an empty queue
is made, and runs it with hypothesis.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tenfold.ports.records import Claim, Finish
from tenfold.testing.clock import HeldClock
from tenfold.testing.queue_suite import AnyQueue, entry, finish, keep, take

__all__ = ["STATE_SETTINGS", "QueueStates", "StatesBench"]

T = TypeVar("T")
WORKERS = st.sampled_from([0, 1])
STATE_SETTINGS = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
"""How long to look, as far as it fits a suite that runs at every change."""


class StatesBench(Protocol):
    """What an adapter's tests hand to the model: an empty queue, its clock, and its rows."""

    @property
    def queue(self) -> AnyQueue:
        """The queue, which is empty at first."""
        ...

    @property
    def clock(self) -> HeldClock:
        """The clock that it goes by."""
        ...

    def another(self) -> AnyQueue:
        """A second adapter over the same queue, as another process would have it."""
        ...

    async def ids(self) -> list[int]:
        """Every entry that is there."""
        ...

    async def unfinished(self, lane: str) -> list[int]:
        """Entries of a lane that are neither gone nor dead letters that released it."""
        ...

    async def live_fences(self) -> set[int]:
        """The claims that live."""
        ...


class QueueStates(RuleBasedStateMachine):
    """Never lost, never in two live claims, lanes in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.bench = self.run(self.open_bench())
        self.queues = [self.bench.queue, self.bench.another()]
        self.added: list[int] = []
        self.lanes: dict[int, str | None] = {}
        self.done: list[int] = []
        self.discarded: set[int] = set()
        self.claims: list[dict[int, Claim]] = [{}, {}]
        self.open: dict[int, set[int]] = {}
        """By fence, the entries whose end its worker has not reported."""

    @abstractmethod
    async def open_bench(self) -> StatesBench:
        """An empty queue, whose first entry has the id 1."""

    @abstractmethod
    async def close_bench(self) -> None:
        """Leave nothing behind."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something of the adapter's to its end."""
        return self.loop.run_until_complete(work)

    @rule(
        lanes=st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=6),
        delay=st.sampled_from([0, 0, 0, 20]),
        priority=st.sampled_from([0, 0, 5]),
    )
    def add(self, lanes: list[str | None], delay: int, priority: int) -> None:
        """Entries are added."""
        at = self.bench.clock.now() + timedelta(seconds=delay)
        made = [entry("m", lane=lane, run_at=at, priority=priority) for lane in lanes]
        assert self.run(self.bench.queue.add(made)) == len(lanes)
        for lane in lanes:
            self.added.append(len(self.added) + 1)
            self.lanes[self.added[-1]] = lane

    @rule(worker=WORKERS, want=st.integers(1, 5))
    def claim(self, worker: int, want: int) -> None:
        """A worker claims, and may only be given what is free and in order."""
        claim = self.run(take(self.queues[worker], want)).claim
        if claim is None:
            return
        ids = [e.id for e in claim.entries]
        live = self.live_ids()
        assert len(ids) <= want
        assert not set(ids) & live, "an entry is in two live claims"
        assert not set(ids) & ({*self.done} | self.discarded), "a finished entry came back"
        assert len(ids) == 1 or not any(e.alone for e in claim.entries)
        busy = {self.lanes[i] for i in live} - {None}
        for at, i in enumerate(ids):
            lane = self.lanes[i]
            assert lane is None or lane not in busy, "a lane is in two live claims"
            for older in self.unfinished(lane) if lane else ():
                if older < i:
                    assert older in ids[:at], "an entry overtook an older one of its lane"
        self.claims[worker][claim.fence] = claim
        self.open[claim.fence] = set(ids)

    @rule(
        worker=WORKERS,
        what=st.sampled_from(["done", "retry", "dead", "hold", "return", "postpone"]),
        whole=st.booleans(),
        data=st.data(),
    )
    def end(self, worker: int, what: str, whole: bool, data: st.DataObject) -> None:
        """A worker reports the end of its first open entry, and perhaps of those behind it."""
        if not self.claims[worker]:
            return
        fence = data.draw(st.sampled_from(sorted(self.claims[worker])))
        order = [e.id for e in self.claims[worker][fence].entries if e.id in self.open[fence]]
        first, rest = order[0], order[1:]
        ended = self.finish_of(fence, what, first, rest if whole else [])
        was_live = fence in self.live_fences()
        turn = self.run(keep(self.queues[worker], ended))
        assert (fence in turn.lost) == (not was_live)
        if was_live:
            if what == "done":
                self.done += [first, *(rest if whole else [])]
            self.open[fence] -= {first, *(rest if whole else [])}
        if not was_live or not self.open[fence]:
            del self.claims[worker][fence]
            del self.open[fence]

    def finish_of(self, fence: int, what: str, first: int, rest: list[int]) -> Finish:
        """What it reports."""
        at = self.bench.clock.now() + timedelta(seconds=10)
        if what == "done":
            return finish(fence, done=[first, *rest])
        if what == "retry":
            return finish(fence, retries={first: (at, "no")}, returned=rest)
        if what == "postpone":
            return finish(fence, postponed={first: (at, "later")}, returned=rest)
        if what == "return":
            return finish(fence, returned=[first, *rest])
        return finish(fence, dead={first: "no"}, holding=[first] * (what == "hold"), returned=rest)

    @rule(seconds=st.sampled_from([1, 10, 31]))
    def time_passes(self, seconds: int) -> None:
        """Leases may end and entries fall due."""
        self.bench.clock.jump(seconds)

    @rule()
    def process_starts_again(self) -> None:
        """All claims are of a past life."""
        self.run(self.bench.queue.release_claims())

    @rule(retry=st.booleans())
    def desk(self, retry: bool) -> None:
        """Somebody clears the dead letters away."""
        letters = self.run(self.bench.queue.entries(state="dead", handler=None, after=0, limit=500))
        letter_ids = [letter.id for letter in letters]
        if retry:
            assert self.run(self.bench.queue.retry(letter_ids)) == len(letter_ids)
        else:
            assert self.run(self.bench.queue.discard(letter_ids)) == len(letter_ids)
            self.discarded.update(letter_ids)

    @precondition(lambda self: self.added)
    @invariant()
    def nothing_is_lost(self) -> None:
        """What was neither done nor discarded is there."""
        left = set(self.run(self.bench.ids()))
        assert left == set(self.added) - set(self.done) - self.discarded

    def unfinished(self, lane: str) -> list[int]:
        """What keeps those behind it in a lane waiting."""
        return self.run(self.bench.unfinished(lane))

    def live_fences(self) -> set[int]:
        """The claims that live."""
        return self.run(self.bench.live_fences())

    def live_ids(self) -> set[int]:
        """The entries that are in live claims."""
        live = self.live_fences()
        return set().union(*(ids for fence, ids in self.open.items() if fence in live))

    def teardown(self) -> None:
        """Whatever happened, all can be brought to its end."""
        try:
            self.everything_ends()
        finally:
            self.run(self.close_bench())
            self.loop.close()

    def everything_ends(self) -> None:
        """From any state on, a worker and a patient operator bring everything to its end."""
        for _ in range(200):
            self.bench.clock.jump(40)
            letters = self.run(
                self.bench.queue.entries(state="dead", handler=None, after=0, limit=500)
            )
            self.run(self.bench.queue.retry([letter.id for letter in letters]))
            claim = self.run(take(self.bench.queue, 5)).claim
            if claim is None:
                break
            ids = [e.id for e in claim.entries]
            self.run(keep(self.bench.queue, finish(claim.fence, done=ids)))
            self.done += ids
        assert self.run(self.bench.queue.counts()) == {}, "entries are stuck"
