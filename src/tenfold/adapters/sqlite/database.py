"""A module's own database on its file, as its handlers see it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from threading import get_ident
from typing import Any

from tenfold.adapters.sqlite.inside import OpenUnit
from tenfold.adapters.sqlite.planner import Plan
from tenfold.adapters.sqlite.store import SqliteStore
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.refusals import Refusal
from tenfold.ports.unit import OPEN, Message, Unit, foreign_await
from tenfold.tables.module_database import ModuleDatabase, ModuleReads, ended

__all__ = ["SqliteDatabase"]


class _Reading(ModuleReads[Plan]):
    """Reads outside any unit of work, on a reader's thread."""

    failures = (StoreUnavailableError, sqlite3.OperationalError)

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store.module, store.planner)
        self._store = store

    def generations(self) -> Mapping[str, int]:
        """Which generation of each projection answers."""
        return self._store.generations

    async def fetch(
        self,
        message: Message,
        plan: Plan,
        parameters: Mapping[str, Any],
        generations: Mapping[str, int],
        most: int | None,
    ) -> list[tuple[Any, ...]]:
        """Run it on a reader's thread, up to the message's deadline."""
        sql, values = plan.render(parameters, message.envelope.tenant, generations)

        def fetch(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if most is None else cursor.fetchmany(most)

        return await self._store.read_rows(fetch, message.deadline)


class SqliteDatabase(ModuleDatabase[Plan]):
    """Implements `Database` on a module's file."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(_Reading(store))

    async def _read(
        self, unit: Unit, plan: Plan, parameters: Mapping[str, Any]
    ) -> Sequence[tuple[Any, ...]]:
        return (await _open(unit)).read(plan, parameters)

    async def _write(
        self,
        unit: Unit,
        plan: Plan,
        parameters: Mapping[str, Any],
        refuse: Mapping[str, Refusal] | None,
    ) -> int:
        return (await _open(unit)).write(plan, parameters, refuse).rowcount

    async def _write_many(self, unit: Unit, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> int:
        return (await _open(unit)).write_many(plan, rows)


async def _open(unit: Unit) -> OpenUnit:
    if unit.session is None:
        if unit.closed:
            raise ended()
        await OPEN
    opened: OpenUnit = unit.session
    if opened.thread != get_ident():
        raise foreign_await(
            opened.module, "a statement in a task of its own, beside the handler that is stepped,"
        )
    return opened
