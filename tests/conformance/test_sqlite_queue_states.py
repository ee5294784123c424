"""The queue on SQLite against a model, whatever two workers do in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tenfold.ports.records import Claim, Finish
from tenfold.testing.queue_suite import entry, finish, keep, take
from tests.conformance.sqlite_bench import SqliteBench

T = TypeVar("T")
WORKERS = st.sampled_from([0, 1])


class QueueStates(RuleBasedStateMachine):
    """Never lost, never in two live claims, lanes in order."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.bench = SqliteBench(Path(self.folder.name) / "module.db")
        self.queues = [self.bench.queue, self.bench.another()]
        for session in self.bench.sessions:
            session.connection.execute("PRAGMA synchronous = OFF")  # nothing here is about power
        self.added: list[int] = []
        self.lanes: dict[int, str | None] = {}
        self.done: list[int] = []
        self.discarded: set[int] = set()
        self.claims: list[dict[int, Claim]] = [{}, {}]
        self.open: dict[int, set[int]] = {}
        """By fence, the entries whose end its worker has not reported."""

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @rule(
        lanes=st.lists(st.sampled_from([None, "a", "b"]), min_size=1, max_size=6),
        delay=st.sampled_from([0, 0, 0, 20]),
        priority=st.sampled_from([0, 0, 5]),
    )
    def add(self, lanes: list[str | None], delay: int, priority: int) -> None:
        at = self.bench.clock.now() + timedelta(seconds=delay)
        made = [entry("m", lane=lane, run_at=at, priority=priority) for lane in lanes]
        assert self.run(self.bench.queue.add(made)) == len(lanes)
        for lane in lanes:
            self.added.append(len(self.added) + 1)
            self.lanes[self.added[-1]] = lane

    @rule(worker=WORKERS, want=st.integers(1, 5))
    def claim(self, worker: int, want: int) -> None:
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
        self.bench.clock.jump(seconds)

    @rule()
    def process_starts_again(self) -> None:
        self.run(self.bench.queue.release_claims())

    @rule(retry=st.booleans())
    def desk(self, retry: bool) -> None:
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
        rows = self.bench.session.connection.execute("SELECT id FROM tenfold_queue")
        left = {row[0] for row in rows}
        assert left == set(self.added) - set(self.done) - self.discarded

    def unfinished(self, lane: str) -> list[int]:
        """Entries of a lane that are neither gone nor dead letters that released it."""
        rows = self.bench.session.connection.execute(
            "SELECT id FROM tenfold_queue WHERE lane = ? AND (waits > 0 OR holds = 1)", (lane,)
        )
        return [row[0] for row in rows]

    def live_fences(self) -> set[int]:
        rows = self.bench.session.connection.execute("SELECT fence FROM tenfold_claims")
        return {row[0] for row in rows}

    def live_ids(self) -> set[int]:
        live = self.live_fences()
        return set().union(*(ids for fence, ids in self.open.items() if fence in live))

    def teardown(self) -> None:
        try:
            self.everything_ends()
        finally:
            self.bench.close()
            self.loop.close()
            self.folder.cleanup()

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


QueueStates.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestQueueStates = QueueStates.TestCase
