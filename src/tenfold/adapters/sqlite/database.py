"""A module's own database, as its handlers see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

import msgspec

from tenfold.adapters.sqlite.inside import OpenUnit
from tenfold.adapters.sqlite.planner import Plan
from tenfold.adapters.sqlite.store import SqliteStore
from tenfold.contracts.errors import OutOfUnitOfWorkError, StoreUnavailableError
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.ports.database import Reads
from tenfold.ports.unit import (
    OPEN,
    BufferedWrite,
    Message,
    Unit,
    current_message,
    foreign_await,
)

__all__ = ["SqliteDatabase"]


class _Reading:
    """Reads outside any unit of work, on a reader's thread."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def rows(
        self, message: Message, statement: Any, parameters: Mapping[str, Any], most: int | None
    ) -> tuple[Plan, list[tuple[Any, ...]]]:
        store = self._store
        plan = store.planner.plan(statement)
        if plan.writes:
            raise OutOfUnitOfWorkError(
                f"A query or an outside read of module {store.module!r} ran a statement that "
                "writes. Nothing was changed. Make the operation a command, or run the statement "
                "on self.db inside its unit of work."
            )
        generations = _generations(store, message)
        try:
            return plan, await self._fetch(message, plan, parameters, generations, most)
        except (StoreUnavailableError, sqlite3.OperationalError):
            newer = _generations(store, message)
            if newer == generations:
                raise
        # While it waited for a thread another generation was swapped in and the one it was made
        # for was dropped.
        return plan, await self._fetch(message, plan, parameters, newer, most)

    async def _fetch(
        self,
        message: Message,
        plan: Plan,
        parameters: Mapping[str, Any],
        generations: Mapping[str, int],
        most: int | None,
    ) -> list[tuple[Any, ...]]:
        sql, values = plan.render(parameters, message.envelope.tenant, generations)

        def fetch(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if most is None else cursor.fetchmany(most)

        return await self._store.read_rows(fetch, message.deadline)

    async def all(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> list[Any]:
        plan, rows = await self.rows(_mine(self._store), statement, parameters, None)
        return _shape(plan, rows, into)

    async def one(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> Any:
        plan, rows = await self.rows(_mine(self._store), statement, parameters, 1)
        return _shape(plan, rows, into)[0] if rows else None

    async def value(self, statement: Any, /, **parameters: Any) -> Any:
        plan, rows = await self.rows(_mine(self._store), statement, parameters, 1)
        return plan.row(rows[0])[0] if rows else None


class SqliteDatabase:
    """Implements `Database` on a module's file."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._reading = _Reading(store)

    @property
    def outside(self) -> Reads:
        """Reads that do not open the unit of work. See `Database.outside`."""
        return self._reading

    async def all(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> list[Any]:
        """Every row. See `Reads.all`."""
        message = _mine(self._store)
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, None)
        else:
            plan, rows = await self._inside(message.unit, statement, parameters)
        return _shape(plan, rows, into)

    async def one(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> Any:
        """The first row, or None. See `Reads.one`."""
        message = _mine(self._store)
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, 1)
        else:
            plan, rows = await self._inside(message.unit, statement, parameters)
        return _shape(plan, rows[:1], into)[0] if rows else None

    async def value(self, statement: Any, /, **parameters: Any) -> Any:
        """The first column of the first row, or None. See `Reads.value`."""
        message = _mine(self._store)
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, 1)
        else:
            plan, rows = await self._inside(message.unit, statement, parameters)
        return plan.row(rows[0])[0] if rows else None

    async def execute(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> int:
        """Run one writing statement now. See `Database.execute`."""
        opened = await _open(self._writing())
        plan = self._store.planner.plan(statement)
        return opened.write(plan, parameters, refuse).rowcount

    async def execute_many(self, statement: Any, rows: Sequence[Mapping[str, Any]], /) -> int:
        """Run one writing statement for each row. See `Database.execute_many`."""
        opened = await _open(self._writing())
        return opened.write_many(self._store.planner.plan(statement), rows)

    def buffer(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> None:
        """Hand over a write for the commit. See `Database.buffer`."""
        unit = self._writing()
        if unit.closed:
            raise _ended()
        unit.buffered.append(
            BufferedWrite(statement=statement, parameters=parameters, refuse=refuse or {})
        )

    async def _inside(
        self, unit: Unit, statement: Any, parameters: Mapping[str, Any]
    ) -> tuple[Plan, list[tuple[Any, ...]]]:
        opened = await _open(unit)
        plan = self._store.planner.plan(statement)
        return plan, opened.read(plan, parameters)

    def _writing(self) -> Unit:
        message = _mine(self._store)
        if message.unit is None:
            kind = "query" if message.kind is Kind.QUERY else message.kind.value
            raise OutOfUnitOfWorkError(
                f"{message.envelope.target} is a {kind} and has no unit of work, so it cannot "
                "write. Make it a command."
            )
        return message.unit


async def _open(unit: Unit) -> OpenUnit:
    if unit.session is None:
        if unit.closed:
            raise _ended()
        await OPEN
    opened: OpenUnit = unit.session
    if opened.thread != get_ident():
        raise foreign_await(
            opened.module, "a statement in a task of its own, beside the handler that is stepped,"
        )
    return opened


def _ended() -> OutOfUnitOfWorkError:
    return OutOfUnitOfWorkError(
        "A task used the database after the unit of work of its message had ended. Nothing was "
        "changed by it. Await the task in the handler, before its first statement."
    )


def _mine(store: SqliteStore) -> Message:
    message = current_message()
    if message.module != store.module:
        raise OutOfUnitOfWorkError(
            f"A handler of {message.module!r} used the database of {store.module!r}. A module "
            "reads and writes only its own; ask the other one through its contract."
        )
    return message


def _generations(store: SqliteStore, message: Message) -> Mapping[str, int]:
    if message.projection is None:
        return store.generations
    return {**store.generations, message.projection: message.generation}


def _shape(plan: Plan, rows: list[tuple[Any, ...]], into: type[Any] | None) -> list[Any]:
    if into is None:
        return [plan.row(row) for row in rows]
    if not issubclass(into, msgspec.Struct):
        raise TypeError(f"into={into!r} is not a Struct.")
    return [plan.into(row, into) for row in rows]
