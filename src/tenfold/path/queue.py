"""The worker of one module's queue: claims entries, has them handled, records what became of them.

    wake, or due ──> turn: finish + renew + claim ──> runs ──> handle(entry, fence)
                      ^                                            │
                      └──────── done · retry · dead · returned ────┘

A turn is one transaction of the store, so whatever ended while the last one was
committed is finished together. Lanes are runs, worked in order; runs are worked
beside one another. A claim is never forgotten silently: it is finished, renewed,
or reported as lost.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta

from tenfold.contracts.structs import Struct
from tenfold.path.attempts import (
    Dead,
    Retry,
    dead,
    decide_batch,
    decide_begin,
    decide_retry,
    error_text,
    log_fields,
)
from tenfold.path.claimed import Batch, Run
from tenfold.path.declare import Background
from tenfold.path.signals import Signal
from tenfold.path.stops import Stop
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.queue import Queue
from tenfold.ports.records import Claim, Claimed, Cycle, Finish

__all__ = ["Worker", "WorkerCounts", "WorkerLimits", "WorkerParts"]

_log = logging.getLogger("tenfold.queue")
Handle = Callable[[Claimed, int], Awaitable[None]]
"""Handles one entry under a fence; returns when its effect is committed, or was before."""


class WorkerLimits(Struct):
    """How much a worker takes on.

    `batch` entries are claimed at most at once, 1 to 500; `concurrency` runs are
    worked beside one another. `lease_s` is renewed at a third of its time.
    `poll_s` is the longest sleep without a signal. `unknown_s` is how long an
    entry waits whose handler this version of the code does not know.
    """

    batch: int = 200
    concurrency: int = 64
    lease_s: float = 30.0
    poll_s: float = 5.0
    unknown_s: float = 60.0


def _never(entry: Claimed) -> bool:
    return False


class WorkerParts(Struct):
    """What a worker works with.

    `backgrounds` are the handlers that this code has, by name. `obsolete` says
    that an entry's work has lost its point, such as that of a projection's
    dropped generation: it is done without being handled.
    """

    module: str
    queue: Queue
    handle: Handle
    backgrounds: Mapping[str, Background]
    clock: Clock
    ids: Ids
    stop: Stop
    limits: WorkerLimits = WorkerLimits()
    obsolete: Callable[[Claimed], bool] = _never


class WorkerCounts:
    """Entries that a worker has seen since it was made, by what became of them."""

    __slots__ = ("claimed", "dead", "done", "lost", "retried", "returned", "unknown")

    def __init__(self) -> None:
        self.claimed = 0
        self.done = 0
        self.retried = 0
        self.dead = 0
        self.returned = 0
        self.unknown = 0
        self.lost = 0


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
        self._ready: deque[Run] = deque()
        self._running: dict[asyncio.Task[None], Run] = {}
        self._cancelled: set[int] = set()
        self._signal = asyncio.Event()
        self._resting = asyncio.Event()
        self._due: datetime | None = None
        self._draining = False
        self._interrupted = False
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._loop_task = asyncio.create_task(self._work(), name=f"queue {self._parts.module}")

    def wake(self) -> None:
        """Look at the queue now: something was added. Cheap, and safe to call often.

        A drained worker stays at rest: what is added waits for another.
        """
        if not self._draining:
            self._resting.clear()
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
        for task, run in self._running.items():
            if run.current is not None and run.current.id == entry_id:
                self._cancelled.add(entry_id)
                task.cancel()
                return True
        return False

    async def drain(self, bound_s: float) -> None:
        """Stop claiming, finish what has begun, give the rest back unchanged.

        What is still being handled after `bound_s` seconds is cancelled and
        waits again without an attempt counted.
        """
        self._draining = True
        for run in self._ready:
            self._give_back(run.batch, run.entries)
        self._ready.clear()
        self._signal.set()
        if self._running:
            await asyncio.wait(list(self._running), timeout=bound_s)
        self._interrupted = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=bound_s + 1.0)
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
        while not self._ended():
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
        claim = await self._turn()
        if claim is not None:
            self._take(claim)
            if claim.entries[0].alone:
                self._signal.set()
        if not self._signal.is_set() and not self._ended():
            await self._rest(claim)

    def _ended(self) -> bool:
        return self._draining and not self._running and not self._batches

    async def _turn(self) -> Claim | None:
        """Finish, renew and claim in one transaction."""
        loop_s = asyncio.get_running_loop().time()
        finishing = [(b, b.take_ended()) for b in self._batches.values() if b.has_ended]
        renewing = [
            b
            for b in self._batches.values()
            if b.open
            and not any(b is f for f, _ in finishing)
            and loop_s - b.renewed_s >= self._limits.lease_s / 3
        ]
        held = sum(batch.open for batch in self._batches.values())
        want = 0 if self._draining else max(self._limits.batch - held, 0)
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
            for batch, finish in finishing:
                batch.put_back(finish)
            raise
        self.turns += 1
        for batch, finish in finishing:
            if batch.fence in turn.lost:
                batch.put_back(finish)
                continue
            self._count(finish)
            batch.renewed_s = loop_s
            if not batch.open and not batch.has_ended:
                del self._batches[batch.fence]
        if finishing:
            self.moved.fire()
        for batch in renewing:
            batch.renewed_s = loop_s
        for fence in turn.lost:
            self._lose(fence)
        return turn.claim

    def _take(self, claim: Claim) -> None:
        self._resting.clear()
        self.counts.claimed += len(claim.entries)
        batch = Batch(claim.fence, len(claim.entries), asyncio.get_running_loop().time())
        self._batches[claim.fence] = batch
        for entries in decide_batch(claim.entries):
            if self._draining:
                self._give_back(batch, entries)
            else:
                self._ready.append(Run(batch, entries))
        self._begin_runs()

    def _begin_runs(self) -> None:
        while self._ready and len(self._running) < self._limits.concurrency:
            run = self._ready.popleft()
            task = asyncio.create_task(self._work_run(run))
            self._running[task] = run
            task.add_done_callback(self._run_ended)

    def _run_ended(self, task: asyncio.Task[None]) -> None:
        run = self._running.pop(task)
        if run.entries:  # cut short from outside, with the loop itself: nothing was recorded
            self._give_back(run.batch, run.entries)
        self._begin_runs()
        self._signal.set()

    async def _work_run(self, run: Run) -> None:
        """Handle the entries of one lane in order, until one of them has to wait."""
        while run.entries and not run.batch.lost:
            entry = run.entries[0]
            if self._draining:
                break
            run.current = entry
            goes_on = await self._attempt(run.batch, entry)
            run.current = None
            run.entries.pop(0)
            self._signal.set()
            if not goes_on:
                break
        if run.batch.lost:
            run.entries = []
        elif run.entries:
            self._give_back(run.batch, run.entries)
            run.entries = []

    async def _attempt(self, batch: Batch, entry: Claimed) -> bool:
        """One attempt at one entry; whether the next of its lane may follow."""
        if self._parts.obsolete(entry):
            batch.done.append(entry.id)
            return True
        background = self._parts.backgrounds.get(entry.handler)
        if background is None:
            return self._postpone_unknown(batch, entry)
        spent = decide_begin(entry, background)
        if spent is not None:
            reason = f"Its claim was lost at the last of {background.attempts} attempts."
            return self._bury(batch, entry, spent, reason)
        began_s = self._parts.clock.monotonic()
        outcome = "fault"
        try:
            await self._parts.handle(entry, batch.fence)
            batch.done.append(entry.id)
            outcome = "done"
            goes_on = True
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except asyncio.CancelledError as error:
            goes_on, outcome = self._cancelled_attempt(batch, entry, background, error)
        except BaseException as error:  # SystemExit too: a handler must not end the process
            goes_on, outcome = self._failed_attempt(batch, entry, background, error)
        label = f"{self._parts.module}.{entry.handler}"
        self._parts.stop.observe(label, outcome, self._parts.clock.monotonic() - began_s)
        return goes_on

    def _failed_attempt(
        self, batch: Batch, entry: Claimed, background: Background, error: BaseException
    ) -> tuple[bool, str]:
        if self._parts.obsolete(entry):  # it became so while it was handled
            batch.done.append(entry.id)
            return True, "obsolete"
        text = error_text(error)
        after = decide_retry(entry, background, self._parts.ids.uniform())
        name = f"{self._parts.module}.{entry.handler}"
        if isinstance(after, Retry):
            at = self._parts.clock.now() + timedelta(seconds=after.delay_s)
            batch.retries[entry.id] = (at, text)
            _log.warning(
                "%s failed at attempt %d of %d and is tried again in %.1f s. %s",
                name,
                entry.attempt,
                background.attempts,
                after.delay_s,
                text,
                extra=log_fields(self._parts.module, entry),
            )
            return False, "retried"
        _log.error("%s failed", name, exc_info=error, extra=log_fields(self._parts.module, entry))
        return self._bury(batch, entry, after, text), "dead"

    def _cancelled_attempt(
        self, batch: Batch, entry: Claimed, background: Background, error: asyncio.CancelledError
    ) -> tuple[bool, str]:
        task = asyncio.current_task()
        if task is None or task.cancelling() == 0:  # the handler's own, not one from outside
            return self._failed_attempt(batch, entry, background, error)
        if entry.id in self._cancelled:
            self._cancelled.discard(entry.id)
            task.uncancel()
            return self._bury(batch, entry, dead(entry.handler), "Cancelled by hand."), "cancelled"
        if batch.lost:
            return False, "lost"
        if self._interrupted:
            reason = "Interrupted: the process stopped before it had ended."
            batch.postponed[entry.id] = (self._parts.clock.now(), reason)
            return False, "interrupted"
        if self._loop_task is None or self._loop_task.done() or self._loop_task.cancelling():
            raise error  # the event loop itself ends
        # A limit that the handler set itself fired while the store stepped it: it cancels the task,
        # and the handler, which would have taken that back, is gone.
        while task.uncancel():
            pass
        own = TimeoutError("It was cancelled from within, as by an asyncio.timeout() of its own.")
        own.__cause__ = error
        return self._failed_attempt(batch, entry, background, own)

    def _bury(self, batch: Batch, entry: Claimed, after: Dead, reason: str) -> bool:
        """Make a dead letter; the lane goes on behind it unless it holds it."""
        batch.dead[entry.id] = reason
        if after.holds:
            batch.holding.append(entry.id)
        _log.error(
            "%s.%s is a dead letter: entry %s:%d after attempt %d. %s Its lane %s. See `tenfold "
            "queue show %s:%d`, then `retry` or `discard` it.",
            self._parts.module,
            entry.handler,
            self._parts.module,
            entry.id,
            entry.attempt,
            reason if reason.endswith((".", "!", "?")) else f"{reason}.",
            "waits for it" if after.holds else "goes on",
            self._parts.module,
            entry.id,
            extra=log_fields(self._parts.module, entry),
        )
        return not after.holds

    def _postpone_unknown(self, batch: Batch, entry: Claimed) -> bool:
        """Let an entry wait whose handler this code does not have, with no attempt counted.

        During a roll-out newer code enqueues what older code cannot handle; a
        dead letter would then be a loss. Discarding it is a person's decision.
        """
        reason = (
            f"No handler {entry.handler!r} in module {self._parts.module!r} of this version. The "
            "entry waits, and its lane with it. Bring the handler back under this name, or "
            "discard the entry."
        )
        at = self._parts.clock.now() + timedelta(seconds=self._limits.unknown_s)
        batch.postponed[entry.id] = (at, reason)
        self.counts.unknown += 1
        module = self._parts.module
        fields = log_fields(module, entry)
        _log.error("Entry %s:%d cannot be handled. %s", module, entry.id, reason, extra=fields)
        return False

    def _give_back(self, batch: Batch, entries: list[Claimed]) -> None:
        batch.returned += [entry.id for entry in entries]

    def _lose(self, fence: int) -> None:
        """A claim is gone: stop its work, whose commits the fence refuses anyway."""
        batch = self._batches.pop(fence, None)
        if batch is None:
            return
        batch.lost = True
        self.counts.lost += batch.open
        self._ready = deque(run for run in self._ready if run.batch is not batch)
        for task, run in self._running.items():
            if run.batch is batch:
                task.cancel()
        _log.warning(
            "Claim %d on the queue of %s was lost with %d entries: this process stood still "
            "beyond its lease of %.0f s. They are worked again, and no effect happens twice.",
            fence,
            self._parts.module,
            batch.open,
            self._limits.lease_s,
        )

    def _count(self, finish: Finish) -> None:
        self.counts.done += len(finish.done)
        self.counts.retried += len(finish.retries)
        self.counts.dead += len(finish.dead)
        self.counts.returned += len(finish.returned)

    async def _rest(self, claim: Claim | None) -> None:
        """Sleep until a signal, the next due entry, a renewal or the poll."""
        wait_s = self._limits.poll_s
        if self._batches:
            wait_s = min(wait_s, self._limits.lease_s / 3)
        if not self._draining:
            self._due = due = await self._parts.queue.next_due()
            if due is not None:
                wait_s = min(wait_s, (due - self._parts.clock.now()).total_seconds())
        if wait_s <= 0 and (claim is not None or self._batches):
            wait_s = 0.005  # something is due that capacity or a lane keeps back for the moment
        if wait_s > 0 and not self._batches and not self._signal.is_set():
            self._resting.set()
        await self._sleep(wait_s)

    async def _sleep(self, wait_s: float) -> None:
        if wait_s <= 0:
            await asyncio.sleep(0)
            return
        timer = asyncio.get_running_loop().call_later(wait_s, self.wake)
        try:
            await self._signal.wait()
        finally:
            timer.cancel()
