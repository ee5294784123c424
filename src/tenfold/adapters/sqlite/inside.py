"""What a handler's statements reach while its unit of work is open: the writer's connection."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

from tenfold.adapters.sqlite.planner import Plan, Planner, constraint_of
from tenfold.contracts.errors import DeadlineExceededError
from tenfold.contracts.refusals import Refusal
from tenfold.ports.unit import Unit

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["OpenUnit"]

_OPS_BETWEEN_LOOKS = 20_000
"""Virtual machine steps of SQLite between two looks at the deadline: about a millisecond."""


class OpenUnit:
    """One open unit of work on the writer's thread. Nothing here ever suspends."""

    __slots__ = ("_connection", "_generations", "_planner", "_tables", "_unit", "module", "thread")

    def __init__(
        self,
        connection: sqlite3.Connection,
        planner: Planner,
        tables: Mapping[str, Table],
        module: str,
        unit: Unit,
        generations: Mapping[str, int],
    ) -> None:
        self._connection = connection
        self._planner = planner
        self._tables = tables
        self.module = module
        self.thread = get_ident()
        self._unit = unit
        self._generations = generations

    def read(self, plan: Plan, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The raw rows of a reading statement, after the writes that were buffered."""
        if self._unit.buffered:
            self.flush()
        if plan.writes:
            return self._run(plan, parameters).fetchall()
        # Only a statement that reads may be interrupted: with one that writes, SQLite would roll
        # the whole group back.
        self._connection.set_progress_handler(self._late, _OPS_BETWEEN_LOOKS)
        try:
            return self._run(plan, parameters).fetchall()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_INTERRUPT":
                self._look()
            raise
        finally:
            self._connection.set_progress_handler(None, 0)

    def write(
        self, plan: Plan, parameters: Mapping[str, Any], refuse: Mapping[str, Refusal] | None
    ) -> sqlite3.Cursor:
        """Run a writing statement now. Raises the refusal of the constraint that it violates."""
        if self._unit.buffered:
            self.flush()
        return self._guarded(lambda: self._run(plan, parameters), refuse)

    def write_many(self, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a writing statement for each row of parameters."""
        if self._unit.buffered:
            self.flush()
        changed = 0
        batch: list[tuple[Any, ...]] = []
        sql = ""
        for row in rows:
            text, values = plan.render(row, self._unit.tenant, self._generations)
            if text != sql and batch:
                changed += self._many(sql, batch)
                batch = []
            sql = text
            batch.append(values)
        return changed + (self._many(sql, batch) if batch else 0)

    def flush(self) -> None:
        """Send the buffered writes, in the order in which they were handed over."""
        buffered = self._unit.buffered
        while buffered:
            write = buffered.pop(0)
            plan = self._planner.plan(write.statement)
            parameters = write.parameters
            self._guarded(lambda p=plan, q=parameters: self._run(p, q), write.refuse)  # type: ignore[misc]

    def _many(self, sql: str, rows: list[tuple[Any, ...]]) -> int:
        self._look()
        return self._connection.executemany(sql, rows).rowcount

    def _run(self, plan: Plan, parameters: Mapping[str, Any]) -> sqlite3.Cursor:
        self._look()
        sql, values = plan.render(parameters, self._unit.tenant, self._generations)
        return self._connection.execute(sql, values)

    def ensure(self) -> None:
        """Raise where SQLite has dropped the transaction, at an error that the handler caught.

        What is written then would be committed on its own, whatever becomes of the unit.
        """
        if not self._connection.in_transaction:
            raise sqlite3.OperationalError(
                "an earlier statement made SQLite roll the transaction back, and the handler "
                "caught its error and went on"
            )

    def _late(self) -> bool:
        return self._unit.cancelled or time.monotonic() > self._unit.deadline

    def _look(self) -> None:
        self.ensure()
        if self._unit.cancelled:
            raise asyncio.CancelledError
        if time.monotonic() > self._unit.deadline:
            raise DeadlineExceededError(
                f"The deadline of a message passed inside its unit of work in {self.module!r}. "
                "Nothing was committed. Send it again, or give the operation a longer timeout_s."
            )

    def _guarded(
        self, run: Callable[[], sqlite3.Cursor], refuse: Mapping[str, Refusal] | None
    ) -> sqlite3.Cursor:
        if not refuse:
            return run()
        try:
            return run()
        except sqlite3.IntegrityError as error:
            name = constraint_of(error, self._tables)
            refusal = refuse.get(name) if name is not None else None
            if refusal is None:
                raise
            raise refusal from error
