"""A module's own database in its schema, as its handlers see it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from tenfold.adapters.postgres.errors import (
    DRIVER_ERRORS,
    is_conflict,
    is_failure,
    is_lost,
    unavailable,
)
from tenfold.adapters.postgres.inside import OpenUnit
from tenfold.adapters.postgres.planner import Plan
from tenfold.adapters.postgres.pool import Pool
from tenfold.adapters.postgres.replicas import PostgresReplicas
from tenfold.adapters.postgres.running import fetch
from tenfold.adapters.postgres.store import PostgresStore
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.refusals import Refusal
from tenfold.ports.unit import OPEN, Message, Unit, foreign_await
from tenfold.tables.module_database import ModuleDatabase, ModuleReads, ended

__all__ = ["PostgresDatabase"]

_ATTEMPTS = 4
_FAILURES = (*DRIVER_ERRORS, StoreUnavailableError)
_REPLICA_WAIT_S = 0.5
"""Seconds that a read waits for a connection to a replica; then the primary answers."""


class _Reading(ModuleReads[Plan]):
    """Reads outside any unit of work: each a statement of its own, read committed."""

    failures = (asyncpg.UndefinedTableError,)

    def __init__(self, store: PostgresStore, replicas: PostgresReplicas | None) -> None:
        super().__init__(store.module, store.planner)
        self._store = store
        self._replicas = replicas

    def generations(self) -> Mapping[str, int]:
        """Which generation of each projection answers."""
        return self._store.generations

    async def refresh(self) -> None:
        """Another process may have swapped one in."""
        await self._store.refresh_generations()

    async def fetch(
        self,
        message: Message,
        plan: Plan,
        parameters: Mapping[str, Any],
        generations: Mapping[str, int],
        most: int | None,
    ) -> Sequence[Any]:
        """Run it on a connection of the pool that answers for this message."""
        sql, values = plan.render(parameters, message.envelope.tenant, generations)
        primary, replicas = self._store.pool, self._replicas
        attempt = 1
        while True:
            pool = primary
            if replicas is not None and attempt == 1:
                pool = await replicas.pool_for(message)
            deadline = message.deadline
            if pool is not primary:
                # A replica that cannot be reached is not waited for: the primary answers.
                deadline = min(deadline, time.monotonic() + _REPLICA_WAIT_S)
            try:
                return await _ask(pool, deadline, sql, values, most)
            except _FAILURES as error:
                if pool is not primary and replicas is not None and replicas.failed(pool, error):
                    attempt += 1
                    continue
                if attempt < _ATTEMPTS and (is_lost(error) or is_conflict(error)):
                    attempt += 1
                    continue
                if is_lost(error) or is_conflict(error) or is_failure(error):
                    raise unavailable(f"A read of module {self.module!r}", error) from error
                raise


async def _ask(
    pool: Pool, deadline: float, sql: str, values: tuple[Any, ...], most: int | None
) -> Sequence[Any]:
    """Run a statement on a connection of a pool."""
    pooled = pool.take_nowait() or await pool.take(deadline=deadline)
    raw: Any = pooled.raw
    try:
        if pool.transaction_pooler:
            return await _in_transaction(pool, raw, sql, values)
        return await fetch(raw, sql, values, most or 0)
    except _FAILURES as error:
        if is_lost(error):
            pool.lose(pooled, error)
        raise
    finally:
        pool.give_back(pooled)


async def _in_transaction(pool: Pool, raw: Any, sql: str, values: tuple[Any, ...]) -> Sequence[Any]:
    """A read through a pooler that keeps nothing between transactions."""
    await raw.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" + pool.begin_suffix)
    try:
        rows: Sequence[Any] = await raw.fetch(sql, *values)
    finally:
        if not raw.is_closed() and not raw._protocol._is_cancelling():
            await raw.execute("COMMIT")
    return rows


class PostgresDatabase(ModuleDatabase[Plan]):
    """Implements `Database` on a module's schema.

    Args:
        replicas: choose who answers a read outside a unit of work; None for the primary.
    """

    def __init__(self, store: PostgresStore, replicas: PostgresReplicas | None = None) -> None:
        super().__init__(_Reading(store, replicas))

    async def _read(self, unit: Unit, plan: Plan, parameters: Mapping[str, Any]) -> Sequence[Any]:
        return await (await _open(unit)).read(plan, parameters)

    async def _write(
        self,
        unit: Unit,
        plan: Plan,
        parameters: Mapping[str, Any],
        refuse: Mapping[str, Refusal] | None,
    ) -> int:
        return await (await _open(unit)).write(plan, parameters, refuse)

    async def _write_many(self, unit: Unit, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> int:
        return await (await _open(unit)).write_many(plan, rows)


async def _open(unit: Unit) -> OpenUnit:
    if unit.session is None:
        if unit.closed:
            raise ended()
        await OPEN
    opened: OpenUnit = unit.session
    if not opened.stepping:
        raise foreign_await(
            opened.module, "a statement in a task of its own, beside the handler that is stepped,"
        )
    return opened
