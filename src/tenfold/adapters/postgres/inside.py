"""What a handler's statements reach while its unit of work is open.

Nothing here awaits asyncpg. A method yields a `Call`, which goes up through the
handler to whoever steps it; the answer comes back the same way. So whatever else
the handler yields is told apart, and refused.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from tenfold.adapters.postgres.constraints import constraint_of
from tenfold.adapters.postgres.folding import Folding, Step
from tenfold.adapters.postgres.planner import Plan
from tenfold.contracts.errors import DeadlineExceededError
from tenfold.contracts.refusals import Refusal
from tenfold.ports.unit import BufferedWrite, Unit

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["Call", "OpenUnit", "refusal_of"]


class Call:
    """A statement on its way to whoever steps the handler.

    `rows` asks for its rows, otherwise it answers how many it changed; `many`
    runs it once for each tuple of `values`.
    """

    __slots__ = ("many", "rows", "sql", "values")

    def __init__(self, sql: str, values: Any, *, rows: bool, many: bool = False) -> None:
        self.sql = sql
        self.values = values
        self.rows = rows
        self.many = many

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self)

    def __repr__(self) -> str:
        return (
            "<a statement of a unit of work, awaited in a task of its own: await it in the "
            "handler itself, one after another, without gather() or create_task()>"
        )


class OpenUnit:
    """One open unit of work. `stepping` is true while its handler is being stepped."""

    __slots__ = (
        "_folding",
        "_singly",
        "_tables",
        "_unit",
        "generations",
        "module",
        "stepping",
        "written",
        "wrote",
    )

    def __init__(
        self,
        folding: Folding,
        tables: Mapping[str, Table],
        module: str,
        unit: Unit,
        generations: Mapping[str, int],
        *,
        singly: bool = False,
    ) -> None:
        """`singly` where each statement has a savepoint before it."""
        self._folding = folding
        self._singly = singly
        self._tables = tables
        self._unit = unit
        self.module = module
        self.generations = generations
        self.stepping = False
        self.wrote = False
        """Whether a statement that writes was run."""
        self.written: set[str] = set()
        """The tables that such statements were for, as they are declared."""

    async def read(self, plan: Plan, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """The raw rows of a reading statement, after the writes that were buffered."""
        if self._unit.buffered:
            await self.flush()
        self._look()
        if plan.writes:
            self.wrote = True
            self.written.update(plan.tables)
        sql, values = plan.render(parameters, self._unit.tenant, self.generations)
        rows: Sequence[Any] = await Call(sql, values, rows=True)
        return rows

    async def write(
        self, plan: Plan, parameters: Mapping[str, Any], refuse: Mapping[str, Refusal] | None
    ) -> int:
        """Run a writing statement now. Raises the refusal of the constraint that it violates."""
        if self._unit.buffered:
            await self.flush()
        self._look()
        self.wrote = True
        self.written.update(plan.tables)
        sql, values = plan.render(parameters, self._unit.tenant, self.generations)
        try:
            changed: int = await Call(sql, values, rows=False)
        except asyncpg.IntegrityConstraintViolationError as error:
            refusal = None if not refuse else refuse.get(constraint_of(error, self._tables) or "")
            if refusal is None:
                raise
            raise refusal from error
        return changed

    async def write_many(self, plan: Plan, rows: Sequence[Mapping[str, Any]]) -> int:
        """Run a writing statement for each row of parameters."""
        if self._unit.buffered:
            await self.flush()
        self._look()
        if not rows:
            return 0
        self.wrote = True
        self.written.update(plan.tables)
        values = [plan.values(row, self._unit.tenant) for row in rows]
        sql = plan.text(self.generations)
        if not plan.returns:
            sql += " RETURNING 1"  # each changed row answers, so that they can be counted
        changed: int = await Call(sql, values, rows=False, many=True)
        return changed

    async def flush(self) -> None:
        """Send the buffered writes, in the order in which they were handed over.

        One by one where the handler may go on after a refusal: what was refused
        then takes no other write with it, and those behind it stay buffered.
        """
        buffered = self._unit.buffered
        self.wrote = True
        self.written |= self._folding.tables(buffered)
        while buffered:
            taken = 1 if self._singly else len(buffered)
            steps = self._folding.writes(buffered[:taken], self._unit.tenant, self.generations)
            del buffered[:taken]
            for step in steps:
                await self._send(step)

    async def _send(self, step: Step) -> None:
        self._look()
        try:
            await Call(step.text, step.values, rows=False, many=step.many)
        except asyncpg.IntegrityConstraintViolationError as error:
            refusal = refusal_of(error, step, self._tables)
            if refusal is None:
                raise
            raise refusal from error

    def _look(self) -> None:
        if time.monotonic() > self._unit.deadline:
            raise DeadlineExceededError(
                f"The deadline of a message passed inside its unit of work in {self.module!r}. "
                "Nothing was committed. Send it again, or give the operation a longer timeout_s."
            )


def refusal_of(
    error: asyncpg.IntegrityConstraintViolationError, step: Step, tables: Mapping[str, Table]
) -> Refusal | None:
    """What the violation of a constraint by buffered writes means, as they declared it."""
    name = constraint_of(error, tables)
    if name is None:
        return None
    found: list[BufferedWrite] = [write for write in step.writes if name in write.refuse]
    return found[0].refuse[name] if found else None
