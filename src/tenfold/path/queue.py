"""The worker of one module's queue: claims entries, has them handled, records what became of them.

    wake, or due ──> turn: finish + renew + claim ──> runs ──> handle(entry, fence)
                      ^                                            │
                      └──────── done · retry · dead · returned ────┘

A turn is one transaction of the store, so whatever ended while the last one was
committed is finished together; and since a turn costs about the same however
much it carries, they are paced, unless the worker would stand still. The next
claim is fetched while the one before is worked. Lanes are runs, worked in order;
runs are worked beside one another. A claim is never forgotten silently: it is
finished, renewed, or reported as lost.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from tenfold.path.attempts import decide_batch, error_text
from tenfold.path.claimed import Batch, WorkerCounts, WorkerLimits, WorkerParts, size_of
from tenfold.path.pace import decide_ahead, decide_linger_s, decide_pause_s
from tenfold.path.runs import Runs
from tenfold.path.signals import Signal
from tenfold.ports.records import Claim, Cycle, Finish

__all__ = ["Worker", "WorkerCounts", "WorkerLimits", "WorkerParts"]

_log = logging.getLogger("tenfold.queue")
ASK_AGAIN_S = 0.25
"""How often a busy worker asks when something falls due; its turns find that too."""


class Worker:
    """Works one module's queue on the event loop."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._limits = parts.limits
        self.counts = WorkerCounts()
        self.moved = Signal()
        """Fires whenever entries were finished, for those who wait for an effect."""
        self.turns = 0
        """Transactions that it has taken at the queue."""
        self._batches: dict[int, Batch] = {}
        self._runs = Runs(parts, self.counts, self._note_ended)
        self._ahead = min(parts.limits.concurrency, parts.limits.batch)
        """How many entries it claims at once: as many as it works in a moment."""
        self._more = True
        """Whether there may be something to claim that it has not looked for."""
        self._full = False
        """Whether the last claim was all that it asked for."""
        self._held = 0
        """Entries that it has claimed and whose end it has not recorded."""
        self._ended = 0
        """How many of them have ended."""
        self._worked = 0
        """How many have ended since the last turn."""
        self._turn_s = 0.0
        self._turned_s = 0.0
        self._asked_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._signal = asyncio.Event()
        self._resting = asyncio.Event()
        self._due: datetime | None = None
        self._draining = False
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._loop_task = asyncio.create_task(self._work(), name=f"queue {self._parts.module}")
        self._runs.owner = self._loop_task

    def wake(self) -> None:
        """Look at the queue now: something was added. Cheap, and safe to call often.

        A drained worker stays at rest: what is added waits for another.
        """
        if not self._draining:
            self._resting.clear()
        self._more = True
        self._signal.set()

    @property
    def resting(self) -> bool:
        """Whether the worker holds nothing and found nothing due when it looked last."""
        return self._resting.is_set() and not self._overslept

    async def wait_resting(self) -> None:
        """Return when the worker is at rest: nothing held, nothing due."""
        if self._overslept:
            self.wake()
        await self._resting.wait()

    @property
    def _overslept(self) -> bool:
        """Whether an entry has fallen due of which the timer has not told yet."""
        if self._due is None or self._draining:
            return False
        return self._due <= self._parts.clock.now()

    def cancel(self, entry_id: int) -> bool:
        """Cancel an entry that is being handled; False where this worker is not handling it.

        What it had not committed is rolled back, and it becomes a dead letter
        that can be retried or discarded.
        """
        return self._runs.cancel(entry_id)

    async def drain(self, bound_s: float) -> None:
        """Stop claiming, finish what has begun, give the rest back unchanged.

        What is still being handled after `bound_s` seconds is cancelled and
        waits again without an attempt counted.
        """
        self._draining = True
        self._signal.set()
        await self._runs.drain(bound_s)
        self._signal.set()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task], timeout=bound_s + 1.0)
            self._loop_task.cancel()
        self._resting.set()
        if self._batches:
            _log.error(
                "The queue of %s stopped with %d claims that could not be given back. They are "
                "lost when their leases end or the process starts again; no effect happens twice.",
                self._parts.module,
                len(self._batches),
            )

    async def _work(self) -> None:
        failures = 0
        while not self._is_over():
            self._signal.clear()
            try:
                await self._step()
                failures = 0
            except Exception as error:  # the store may be full or gone: keep all, try again
                failures += 1
                _log.error(
                    "The queue of %s could not take its turn; what has ended is kept and "
                    "recorded at the next one. %s",
                    self._parts.module,
                    error_text(error),
                )
                if self._draining and failures >= 3:
                    return
                # Not `_sleep`: work that ends would cut it short and hammer a store in trouble.
                await asyncio.sleep(min(0.05 * 2.0**failures, self._limits.poll_s))

    async def _step(self) -> None:
        pause_s = self._pause_s()
        if pause_s is None:
            await self._rest()
        elif pause_s > 0:
            await self._sleep(pause_s)
        else:
            claim = await self._turn()
            if claim is not None:
                self._take(claim)
            await asyncio.sleep(0)

    def _is_over(self) -> bool:
        return self._draining and not self._runs.busy and not self._batches

    def _pause_s(self) -> float | None:
        """Seconds until the next turn is worth taking; None where there is no reason for one."""
        loop_s = asyncio.get_running_loop().time()
        if any(batch.open and self._is_old(batch, loop_s) for batch in self._batches.values()):
            return 0.0
        return decide_pause_s(
            busy=self._runs.busy,
            ended=self._ended > 0,
            reports=any(self._reports(batch, loop_s) for batch in self._batches.values()),
            hungry=self._more and self._want() > 0,
            full=self._full,
            turn_s=self._turn_s,
            since_s=loop_s - self._turned_s,
        )

    def _is_old(self, batch: Batch, loop_s: float) -> bool:
        """Whether a lease is to be renewed."""
        return loop_s - batch.renewed_s >= self._limits.lease_s / 3

    def _want(self) -> int:
        """How many entries to claim: a whole helping, once half of the last one is begun."""
        if self._draining or self._runs.unbegun > self._ahead:
            return 0
        return self._ahead

    def _note_ended(self, count: int) -> None:
        """Entries have ended: see whether that is reason enough for a turn."""
        self._ended += count
        self._worked += count
        if self._signal.is_set():
            return
        if (
            self._ended >= self._held
            or not self._full
            or (self._more and self._runs.unbegun <= self._ahead)
        ):
            self._signal.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                decide_linger_s(self._turn_s), self._ring
            )

    def _ring(self) -> None:
        self._timer = None
        self._signal.set()

    async def _turn(self) -> Claim | None:
        """Finish, renew and claim in one transaction."""
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        finishing = [
            (b, b.take_ended()) for b in self._batches.values() if self._reports(b, began_s)
        ]
        finished = {batch.fence for batch, _ in finishing}
        renewing = [
            batch
            for batch in self._batches.values()
            if batch.open and batch.fence not in finished and self._is_old(batch, began_s)
        ]
        want = self._want()
        self._more = self._more and want == 0
        if not (finishing or renewing or want):
            return None
        cycle = Cycle(
            finished=[finish for _, finish in finishing],
            renew=[batch.fence for batch in renewing],
            want=want,
            lease_s=self._limits.lease_s,
        )
        try:
            turn = await self._parts.queue.cycle(cycle)
        except BaseException:
            self._more = True
            for batch, finish in finishing:
                batch.put_back(finish)
            raise
        self.turns += 1
        for batch in renewing:
            batch.renewed_s = began_s
        for batch, finish in finishing:
            self._record(batch, finish, batch.fence in turn.lost, began_s)
        if finishing:
            self.moved.fire()
        for fence in turn.lost:
            self._lose(fence)
        now_s = loop.time()
        self._ahead = decide_ahead(
            self._ahead,
            self._limits.concurrency,
            self._limits.batch,
            self._worked,
            now_s - self._turned_s,
        )
        self._worked = 0
        self._turn_s, self._turned_s = now_s - began_s, now_s
        if want:
            claimed = 0 if turn.claim is None else len(turn.claim.entries)
            self._full = claimed >= want
            # One that runs alone is the only one of its claim, whatever stands behind it.
            self._more |= self._full or (turn.claim is not None and turn.claim.entries[0].alone)
        return turn.claim

    def _reports(self, batch: Batch, loop_s: float) -> bool:
        """Whether this turn records what has ended of a batch, or waits for the rest of it."""
        if not batch.has_ended:
            return False
        busy = self._runs.busy and not self._draining
        linger_s = decide_linger_s(self._turn_s)
        return not busy or batch.ended == batch.open or loop_s - batch.reported_s >= linger_s

    def _record(self, batch: Batch, finish: Finish, lost: bool, loop_s: float) -> None:
        if lost:
            batch.put_back(finish)
            return
        self.counts.done += len(finish.done)
        self.counts.retried += len(finish.retries)
        self.counts.dead += len(finish.dead)
        self.counts.returned += len(finish.returned)
        ended = size_of(finish)
        self._held -= ended
        self._ended -= ended
        batch.renewed_s = batch.reported_s = loop_s
        if not batch.open and not batch.has_ended:
            del self._batches[batch.fence]

    def _take(self, claim: Claim) -> None:
        self._resting.clear()
        self.counts.claimed += len(claim.entries)
        self._held += len(claim.entries)
        batch = Batch(claim.fence, len(claim.entries), self._turned_s)
        self._batches[claim.fence] = batch
        self._runs.begin(batch, decide_batch(claim.entries))

    def _lose(self, fence: int) -> None:
        """A claim is gone: stop its work, whose commits the fence refuses anyway."""
        batch = self._batches.pop(fence, None)
        if batch is None:
            return
        batch.lost = True
        self.counts.lost += batch.open
        self._held -= batch.open
        self._ended -= batch.ended
        self._runs.lose(batch)
        _log.warning(
            "Claim %d on the queue of %s was lost with %d entries: this process stood still "
            "beyond its lease of %.0f s. They are worked again, and no effect happens twice.",
            fence,
            self._parts.module,
            batch.open,
            self._limits.lease_s,
        )

    async def _rest(self) -> None:
        """Sleep until a signal, the next due entry, a renewal or the poll."""
        wait_s = self._limits.poll_s
        if self._batches:
            wait_s = min(wait_s, self._limits.lease_s / 3)
        loop_s = asyncio.get_running_loop().time()
        if self._batches and loop_s - self._asked_s < ASK_AGAIN_S:
            wait_s = min(wait_s, ASK_AGAIN_S)
        elif not self._draining:
            self._asked_s = loop_s
            self._due = due = await self._parts.queue.next_due()
            if due is not None:
                wait_s = min(wait_s, (due - self._parts.clock.now()).total_seconds())
        if wait_s <= 0 and self._batches:
            wait_s = 0.005  # something is due that capacity or a lane keeps back for the moment
        if wait_s > 0 and not self._batches and not self._signal.is_set():
            self._resting.set()
        await self._sleep(wait_s, look=True)

    async def _sleep(self, wait_s: float, *, look: bool = False) -> None:
        """Until a signal, or for so long; `look` says that there may be something to claim then."""
        if wait_s <= 0:
            self._more |= look
            await asyncio.sleep(0)
            return
        wake = self.wake if look else self._signal.set
        timer = asyncio.get_running_loop().call_later(wait_s, wake)
        try:
            await self._signal.wait()
        finally:
            timer.cancel()
