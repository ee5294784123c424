"""One module's file: units of work and the platform's records, on its writer and the readers."""

from __future__ import annotations

import asyncio
import sqlite3
from asyncio import events as asyncio_events
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tenfold.adapters.sqlite import records
from tenfold.adapters.sqlite.connection import open_writer
from tenfold.adapters.sqlite.inside import OpenUnit
from tenfold.adapters.sqlite.planner import Planner
from tenfold.adapters.sqlite.readers import ReaderPool
from tenfold.adapters.sqlite.schema import create_platform_tables
from tenfold.adapters.sqlite.writer import (
    CLOSE_S,
    GroupNews,
    Task,
    UnitTask,
    Writer,
)
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.ports.clock import Clock
from tenfold.ports.news import CommitNews
from tenfold.ports.stepping import close_handler, refuse_await
from tenfold.ports.unit import (
    GuardLoop,
    Unit,
    UnitLostError,
    UnitResult,
    lease_gone,
    place_gone,
)

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["SqliteStore"]

_T = TypeVar("_T")


class SqliteStore:
    """A module's database file. Implements `Units` and the adapters' `Session`.

    Guarantees: units of work run one after another (serializable); what was
    answered has been synced to the log; a refusal, fault, timeout or
    cancellation leaves nothing.
    """

    def __init__(
        self,
        file: Path,
        module: str,
        planner: Planner,
        readers: ReaderPool,
        clock: Clock,
        *,
        tables: Mapping[str, Table],
        on_commit: Callable[[CommitNews], None] = lambda _: None,
    ) -> None:
        self.file = file
        self.module = module
        self.planner = planner
        self._tables = tables
        self.generations: Mapping[str, int] = {}
        """Which generation of each projection answers; replaced as a whole at a swap."""
        self._readers = readers
        self._clock = clock
        self._guard: Any = GuardLoop(module)
        self._on_commit = on_commit
        self._writer = Writer(file, module, self._committed)
        self._head = 0

    def prepare(self, work: Callable[[sqlite3.Connection], None] | None = None) -> None:
        """Make the platform's tables, then run `work`, in one transaction, before the start."""
        connection = open_writer(self.file)
        try:
            connection.execute("BEGIN IMMEDIATE")
            create_platform_tables(connection)
            if work is not None:
                work(connection)
            connection.execute("COMMIT")
            self._head = records.outbox_head(connection)
        finally:
            connection.close()

    def start(self) -> None:
        """Start the writing thread."""
        self._writer.start()

    def close(self, wait_s: float = CLOSE_S) -> None:
        """Finish what was handed in, then end the writing thread. See `Writer.close`."""
        self._writer.close(wait_s)

    def refuse_writes(self, refusal: StoreUnavailableError | None) -> None:
        """Write nothing more, or with None write again. See `Writer.refuse`."""
        self._writer.refuse(refusal)

    @property
    def healthy(self) -> bool:
        """Whether it still writes; false for good once a sync of the log has failed."""
        return self._writer.broken is None

    def _committed(self, news: CommitNews) -> None:
        self._head = max(self._head, news.head)
        self._on_commit(news)

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run the platform's own work on the writer's thread. See `Session.write`."""
        task = Task(work)
        self._writer.submit(task)
        result: _T = await task.future
        return result

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run on a reader's thread, all statements on one state. See `Session.read`."""
        return await self._readers.read(self.file, self.module, work, snapshot=True)

    async def read_rows(self, work: Callable[[sqlite3.Connection], _T], deadline: float) -> _T:
        """Run one reading statement on a reader's thread, up to a deadline."""
        return await self._readers.read(self.file, self.module, work, deadline=deadline)

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        """Carry one unit of work. See `Units.run`."""
        task = UnitTask(unit, handler, context, value, self._carry)
        try:
            self._writer.submit(task)
            result: UnitResult = await task.future
        except asyncio.CancelledError:
            unit.cancelled = True
            raise
        except (UnitLostError, StoreUnavailableError):
            close_handler(handler, context)
            raise
        return result

    def _carry(self, connection: sqlite3.Connection, task: UnitTask, news: GroupNews) -> UnitResult:
        """On the writer's thread, in a savepoint: check, step, flush."""
        unit = task.unit
        now = self._clock.now()
        if unit.inbox is not None:
            # Noted before the handler runs, in the same savepoint, so that one statement both
            # asks and notes.
            if not records.insert_inbox(connection, unit.inbox, now):
                close_handler(task.handler, task.context)
                return UnitResult(value=None, position=self._head, duplicate=True)
            if unit.fence is not None and not _alive(connection, unit.fence, news):
                close_handler(task.handler, task.context)
                raise lease_gone()
        if unit.place is not None and not records.move_place(connection, unit.place):
            close_handler(task.handler, task.context)
            raise place_gone()
        key = unit.reply_key
        if key is not None:
            stored = records.find_reply(connection, key.scope, key.key, now)
            if stored is not None:
                close_handler(task.handler, task.context)
                return UnitResult(value=None, position=stored.position, replay=stored)
        generations = self.generations
        if unit.projection is not None:
            generations = {**generations, unit.projection[0]: unit.projection[1]}
        opened = OpenUnit(connection, self.planner, self._tables, self.module, unit, generations)
        value = task.value
        if task.handler is not None:
            value = self._step(task.handler, task.context, unit, opened)
            if unit.broken is not None:
                raise unit.broken  # the handler caught it, and went on
            opened.ensure()
        if unit.buffered:
            opened.flush()
        position = self._flush(connection, unit, value, now, news)
        unit.sealed = True
        if unit.cancelled:
            unit.sealed = False
            raise asyncio.CancelledError
        return UnitResult(value=value, position=position)

    def _step(
        self,
        handler: Coroutine[Any, Any, Any],
        context: Context,
        unit: Unit,
        opened: OpenUnit,
    ) -> Any:
        """Finish a handler here. Whatever it awaits but its own database is refused."""
        unit.session = opened
        asyncio_events._set_running_loop(self._guard)
        try:
            try:
                awaited = context.run(handler.send, None)
            except StopIteration as stop:
                return stop.value
            raise refuse_await(self.module, awaited, handler, context)
        finally:
            asyncio_events._set_running_loop(None)
            unit.session = None

    def _flush(
        self,
        connection: sqlite3.Connection,
        unit: Unit,
        value: Any,
        now: Any,
        news: GroupNews,
    ) -> int:
        position = self._head
        if unit.events:
            news.head = position = records.insert_events(connection, unit.events)
        if unit.entries:
            records.insert_entries(connection, unit.entries, now)
            news.entries = True
        if unit.reply_key is not None:
            records.insert_reply(
                connection, unit.reply_key, unit.encode_reply(value), position, now
            )
        return position


def _alive(connection: sqlite3.Connection, fence: int, news: GroupNews) -> bool:
    """Whether a claim stands; asked once in a group, which only the platform's own work ends."""
    if fence not in news.alive:
        if not records.claim_alive(connection, fence):
            return False
        news.alive.add(fence)
    return True
