"""The runs of a worker: entries of one lane in order, runs beside one another.

A run that waits for nothing costs no task of its own: one task works run after
run, by plain calls, and calls the next task to take over where a run has to wait.
So there are as many tasks as there are runs that wait, and one more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

from tenfold.contracts.errors import LeaseLostError
from tenfold.path.attempts import (
    Dead,
    Retry,
    dead,
    decide_begin,
    decide_retry,
    error_text,
    log_fields,
)
from tenfold.path.claimed import Batch, Run, WorkerCounts, WorkerParts
from tenfold.path.declare import Background
from tenfold.ports.records import Claimed

__all__ = ["Runs"]

_log = logging.getLogger("tenfold.queue")
SLICE_S = 0.001
"""How long runs that wait for nothing are worked before others have their turn on the loop."""


class Runs:
    """What a worker has claimed and not finished, worked by a bounded number of tasks.

    Args:
        ended: told on the event loop how many entries have ended, whenever some have; 0 where
            their claim is gone.
    """

    def __init__(
        self, parts: WorkerParts, counts: WorkerCounts, ended: Callable[[int], None]
    ) -> None:
        self._parts = parts
        self._counts = counts
        self._ended = ended
        self.unbegun = 0
        """Entries that nobody has begun to work."""
        self.draining = False
        self.owner: asyncio.Task[None] | None = None
        """The worker's own task, which ends with the event loop."""
        self._interrupted = False
        self._ready: deque[Run] = deque()
        self._running: dict[asyncio.Task[None], Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: asyncio.Task[None] | None = None
        self._until_s = 0.0
        self._untold = 0
        """How many entries have ended of which the worker does not know yet."""
        self._news = False
        self._cancelled: set[int] = set()
        self._labels = {name: f"{parts.module}.{name}" for name in parts.backgrounds}

    @property
    def busy(self) -> bool:
        """Whether an entry is being handled, or about to be."""
        return bool(self._running or self._ready)

    def begin(self, batch: Batch, runs: Iterable[list[Claimed]]) -> None:
        """Work the runs of a claim, behind those that are there."""
        begun = [Run(batch, entries) for entries in runs]
        self.unbegun += sum([len(run.entries) for run in begun])
        self._ready.extend(begun)
        if self.draining:
            self._give_back_ready()
        self._call_next()

    def cancel(self, entry_id: int) -> bool:
        """Cancel an entry that is being handled; False where it is not."""
        for task, run in self._running.items():
            if run.current is not None and run.current.id == entry_id:
                self._cancelled.add(entry_id)
                task.cancel()
                return True
        return False

    def lose(self, batch: Batch) -> None:
        """Stop the work of a claim that is gone."""
        kept = deque(run for run in self._ready if run.batch is not batch)
        self.unbegun -= sum(len(run.entries) for run in self._ready if run.batch is batch)
        self._ready = kept
        for task, run in self._running.items():
            if run.batch is batch:
                task.cancel()

    async def drain(self, bound_s: float) -> None:
        """Give back what has not begun; interrupt what has not ended within the bound."""
        self.draining = True
        self._give_back_ready()
        if self._running:
            await asyncio.wait(list(self._running), timeout=bound_s)
        self._interrupted = True
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=bound_s + 1.0)

    def _call_next(self) -> None:
        """Have a task at hand for what is ready, unless one is coming or there are enough."""
        if not self._ready or self._coming is not None:
            return
        if len(self._tasks) < self._parts.limits.concurrency:
            self._coming = task = asyncio.create_task(self._work_ready())
            self._tasks.add(task)
            task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        run = self._running.pop(task, None)
        if run is not None:  # cut short from outside, with the loop itself: nothing was recorded
            self._give_back(run)
        if self._coming is task:
            self._coming = None
        self._call_next()

    async def _work_ready(self) -> None:
        """Work what is ready for a slice of time, or until a run has to wait for something."""
        task = asyncio.current_task()
        assert task is not None
        self._coming = None
        self._until_s = time.monotonic() + SLICE_S
        while self._ready:
            self._running[task] = run = self._ready.popleft()
            while (rest := self._work(run)) is not None:
                self._call_next()
                self._tell()
                if not self._note(run, await self._wait(run, rest)):
                    break
            if run.entries:
                self._leave(run)
            del self._running[task]
            # What was cancelled ends, so that the next run finds a task that nobody has touched.
            if task.cancelling() or time.monotonic() > self._until_s:
                break
        self._call_next()
        self._tell()

    def _work(self, run: Run) -> Awaitable[None] | None:
        """Handle the entries of one lane in order; what the first waits for that has to wait."""
        batch, entries = run.batch, run.entries
        while entries and not batch.lost and not self.draining:
            run.current = entry = entries.pop(0)
            self.unbegun -= 1
            begun = self._begin(run, entry)
            if begun is not True and begun is not False:
                return begun
            if not self._note(run, begun):
                break
        return None

    async def _wait(self, run: Run, rest: Awaitable[None]) -> bool:
        """Wait for the end of an attempt; whether the next of its lane may follow."""
        try:
            await rest
        except BaseException as error:
            return self._ended_badly(run, error)
        return self._ended_well(run)

    def _note(self, run: Run, goes_on: bool) -> bool:
        """An entry has ended: the worker is told before others have their turn on the loop."""
        run.current = None
        self._news = True
        if not run.batch.lost:
            self._untold += 1
        return goes_on

    def _tell(self) -> None:
        if self._news:
            self._news = False
            untold, self._untold = self._untold, 0
            self._ended(untold)

    def _leave(self, run: Run) -> None:
        """Let go of what of a run is not to be worked now."""
        if run.batch.lost:
            self.unbegun -= len(run.entries)
            run.entries.clear()
        else:
            self._give_back(run)

    def _give_back_ready(self) -> None:
        while self._ready:
            self._give_back(self._ready.popleft())

    def _give_back(self, run: Run) -> None:
        """Let what is left of a run wait again, unchanged."""
        back = [entry.id for entry in run.entries]
        self.unbegun -= len(back)
        run.entries.clear()
        if run.current is not None:
            back.append(run.current.id)
            run.current = None
        if not run.batch.lost:
            run.batch.returned += back
            self._ended(len(back))

    def _begin(self, run: Run, entry: Claimed) -> Awaitable[None] | bool:
        """Begin an attempt at one entry.

        Returns: what it waits for; where it has ended, whether the next of its lane may follow.
        """
        parts, batch = self._parts, run.batch
        if parts.obsolete is not None and parts.obsolete(entry):
            batch.done.append(entry.id)
            return True
        background = parts.backgrounds.get(entry.handler)
        if background is None:
            return self._postpone_unknown(batch, entry)
        spent = decide_begin(entry, background) if entry.suspect else None
        if spent is not None:
            reason = f"Its claim was lost at the last of {background.attempts} attempts."
            return self._bury(batch, entry, spent, reason)
        run.began_s = parts.clock.monotonic()
        try:
            rest = parts.handle(entry, batch.fence)
        except BaseException as error:
            return self._ended_badly(run, error)
        return self._ended_well(run) if rest is None else rest

    def _ended_well(self, run: Run) -> bool:
        entry = run.current
        assert entry is not None
        run.batch.done.append(entry.id)
        self._observe(run, entry, "done")
        return True

    def _ended_badly(self, run: Run, error: BaseException) -> bool:
        """Record what an attempt failed with; whether the next of its lane may follow."""
        batch, entry = run.batch, run.current
        assert entry is not None
        background = self._parts.backgrounds[entry.handler]
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise error
        if isinstance(error, asyncio.CancelledError):
            goes_on, outcome = self._cancelled_attempt(batch, entry, background, error)
        elif isinstance(error, LeaseLostError):
            # Another worker's by now. The next turn finds the claim gone, and forgets this.
            batch.returned.append(entry.id)
            goes_on, outcome = False, "lost"
        else:  # SystemExit too: a handler must not end the process
            goes_on, outcome = self._failed_attempt(batch, entry, background, error)
        self._observe(run, entry, outcome)
        return goes_on

    def _observe(self, run: Run, entry: Claimed, outcome: str) -> None:
        parts = self._parts
        took_s = parts.clock.monotonic() - run.began_s
        parts.stop.observe(self._labels[entry.handler], outcome, took_s)

    def _failed_attempt(
        self, batch: Batch, entry: Claimed, background: Background, error: BaseException
    ) -> tuple[bool, str]:
        obsolete = self._parts.obsolete
        if obsolete is not None and obsolete(entry):  # it became so while it was handled
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
        owner = self.owner
        if owner is None or owner.done() or owner.cancelling():
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
        at = self._parts.clock.now() + timedelta(seconds=self._parts.limits.unknown_s)
        batch.postponed[entry.id] = (at, reason)
        self._counts.unknown += 1
        module = self._parts.module
        fields = log_fields(module, entry)
        _log.error("Entry %s:%d cannot be handled. %s", module, entry.id, reason, extra=fields)
        return False
