"""Schedules: at each time of a cron expression, in UTC, one entry in the module's queue.

The entry of the next time waits in the queue already. So a time that passes
while the product is down is made up for when it starts, by one run, however
many times have passed; and what is queued carries an id made of the handler and
the time, so that the inbox keeps a clock that steps back from running it twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from tenfold.contracts.errors import ContractError
from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.queue import Worker
from tenfold.ports.clock import Clock
from tenfold.ports.queue import Queue, QueueDesk
from tenfold.ports.records import QueueEntry

__all__ = ["ScheduleParts", "Schedules", "decide_next_fire"]

_log = logging.getLogger("tenfold.schedule")


def decide_next_fire(cron: str, after: datetime) -> datetime:
    """The first time of a cron expression strictly after a moment, in UTC.

    Raises: ContractError for an expression that is malformed or never comes.
    """
    try:
        return next(CronSim(cron, after.astimezone(UTC)))
    except (CronSimError, StopIteration) as error:
        raise ContractError(
            f"The schedule {cron!r} is no cron expression of five fields, or no time ever matches "
            'it. Write one such as "*/5 * * * *": minute, hour, day, month, weekday.'
        ) from error


class ScheduleParts(Struct):
    """What schedules work with.

    `crons` are the expressions by handler. `make_body` gives an entry's body for
    (handler, message id, time). `longest_sleep_s` bounds how late a change of the
    clock is noticed.
    """

    module: str
    queue: Queue
    desk: QueueDesk
    worker: Worker
    clock: Clock
    crons: Mapping[str, str]
    make_body: Callable[[str, str, datetime], bytes]
    tenant: str = "main"
    longest_sleep_s: float = 30.0


class Schedules:
    """Keeps the next entry of each of a module's schedules in its queue."""

    def __init__(self, parts: ScheduleParts) -> None:
        self._parts = parts
        self._signal = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._loop_task = asyncio.create_task(self._work(), name=f"cron {self._parts.module}")

    async def stop(self) -> None:
        """Stop; what is queued stays queued."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])

    def wake(self) -> None:
        """Look at the clock now: it was moved."""
        self._signal.set()

    async def ensure(self) -> datetime | None:
        """Put the next entry of each schedule into the queue; returns the earliest time.

        The entry's unique key is the time, so this may be done at any moment and
        by any process.
        """
        now = self._parts.clock.now()
        entries = []
        for handler, cron in self._parts.crons.items():
            at = decide_next_fire(cron, now)
            message_id = f"{self._parts.module}.{handler}@{at.isoformat()}"
            entries.append(
                QueueEntry(
                    message_id=message_id,
                    handler=handler,
                    tenant=self._parts.tenant,
                    body=self._parts.make_body(handler, message_id, at),
                    run_at=at,
                    unique_key=at.isoformat(),
                )
            )
        if entries and await self._parts.queue.add(entries):
            self._parts.worker.wake()
        return min((entry.run_at for entry in entries if entry.run_at), default=None)

    async def forget_changed(self) -> int:
        """Remove queued times that a schedule no longer has; returns how many. Run at start.

        A time that has passed stays: it is made up for.
        """
        now = self._parts.clock.now()
        stale: list[int] = []
        for handler, cron in self._parts.crons.items():
            at = decide_next_fire(cron, now)
            waiting = await self._parts.desk.entries(
                state="waiting", handler=handler, after=0, limit=500
            )
            stale += [e.id for e in waiting if e.run_at > now and e.run_at != at and not e.attempts]
        return await self._parts.desk.discard(stale) if stale else 0

    async def _work(self) -> None:
        forgotten = False
        while True:
            self._signal.clear()
            wait_s = self._parts.longest_sleep_s
            try:
                if not forgotten:
                    await self.forget_changed()
                    forgotten = True
                at = await self.ensure()
                if at is not None:
                    wait_s = min(wait_s, (at - self._parts.clock.now()).total_seconds() + 0.001)
            except Exception as error:  # the store may be full or gone: the next look mends it
                _log.error(
                    "The schedules of %s could not be queued; it is tried again within %.0f s. %s",
                    self._parts.module,
                    self._parts.longest_sleep_s,
                    error_text(error),
                )
            timer = asyncio.get_running_loop().call_later(max(wait_s, 0.05), self._signal.set)
            try:
                await self._signal.wait()
            finally:
                timer.cancel()
