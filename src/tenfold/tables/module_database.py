"""A module's own database as its handlers see it: what is the same on every store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from tenfold.contracts.errors import OutOfUnitOfWorkError
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.ports.database import Reads
from tenfold.ports.unit import BufferedWrite, Message, Unit, current_message
from tenfold.tables.plan import Plan
from tenfold.tables.planning import StatementPlanner

__all__ = ["ModuleDatabase", "ModuleReads", "ended"]

_PlanT = TypeVar("_PlanT", bound=Plan)


class ModuleReads(ABC, Generic[_PlanT]):
    """Reads outside any unit of work, each on the newest committed state. Implements `Reads`."""

    failures: ClassVar[tuple[type[Exception], ...]] = ()
    """What a read raises whose table was dropped, as another generation was swapped in."""

    def __init__(self, module: str, planner: StatementPlanner[_PlanT]) -> None:
        self.module = module
        self.planner = planner

    @abstractmethod
    def generations(self) -> Mapping[str, int]:
        """Which generation of each projection answers, as far as is known here."""

    @abstractmethod
    async def fetch(
        self,
        message: Message,
        plan: _PlanT,
        parameters: Mapping[str, Any],
        generations: Mapping[str, int],
        most: int | None,
    ) -> Sequence[Any]:
        """At most so many raw rows of a statement that reads; all where `most` is None."""

    async def refresh(self) -> None:
        """Learn the generations anew, where they are not told."""

    async def rows(
        self, message: Message, statement: Any, parameters: Mapping[str, Any], most: int | None
    ) -> tuple[_PlanT, Sequence[Any]]:
        """The plan of a statement, and its raw rows."""
        plan = self.planner.plan(statement)
        if plan.writes:
            raise OutOfUnitOfWorkError(
                f"A query or an outside read of module {self.module!r} ran a statement that "
                "writes. Nothing was changed. Make the operation a command, or run the statement "
                "on self.db inside its unit of work."
            )
        generations = self._generations(message)
        try:
            return plan, await self.fetch(message, plan, parameters, generations, most)
        except self.failures:
            await self.refresh()
            newer = self._generations(message)
            if newer == generations:
                raise
        # While it waited another generation was swapped in and the one it was made for was
        # dropped.
        return plan, await self.fetch(message, plan, parameters, newer, most)

    def mine(self) -> Message:
        """The message being handled. Raises OutOfUnitOfWorkError where it is another module's."""
        message = current_message()
        if message.module != self.module:
            raise OutOfUnitOfWorkError(
                f"A handler of {message.module!r} used the database of {self.module!r}. A module "
                "reads and writes only its own; ask the other one through its contract."
            )
        return message

    async def all(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> list[Any]:
        """Every row. See `Reads.all`."""
        plan, rows = await self.rows(self.mine(), statement, parameters, None)
        return _shape(plan, rows, into)

    async def one(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> Any:
        """The first row, or None. See `Reads.one`."""
        plan, rows = await self.rows(self.mine(), statement, parameters, 1)
        return _shape(plan, rows, into)[0] if rows else None

    async def value(self, statement: Any, /, **parameters: Any) -> Any:
        """The first column of the first row, or None. See `Reads.value`."""
        plan, rows = await self.rows(self.mine(), statement, parameters, 1)
        return plan.value(rows[0]) if rows else None

    def _generations(self, message: Message) -> Mapping[str, int]:
        if message.projection is None:
            return self.generations()
        return {**self.generations(), message.projection: message.generation}


class ModuleDatabase(ABC, Generic[_PlanT]):
    """Implements `Database`; how statements run in an open unit of work is the store's."""

    def __init__(self, reading: ModuleReads[_PlanT]) -> None:
        self._reading = reading
        self._plan = reading.planner.plan
        self._mine = reading.mine

    @abstractmethod
    async def _read(
        self, unit: Unit, plan: _PlanT, parameters: Mapping[str, Any]
    ) -> Sequence[Any]: ...

    @abstractmethod
    async def _write(
        self,
        unit: Unit,
        plan: _PlanT,
        parameters: Mapping[str, Any],
        refuse: Mapping[str, Refusal] | None,
    ) -> int: ...

    @abstractmethod
    async def _write_many(
        self, unit: Unit, plan: _PlanT, rows: Sequence[Mapping[str, Any]]
    ) -> int: ...

    @property
    def outside(self) -> Reads:
        """Reads that do not open the unit of work. See `Database.outside`."""
        return self._reading

    async def all(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> list[Any]:
        """Every row. See `Reads.all`."""
        message = self._mine()
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, None)
        else:
            plan = self._plan(statement)
            rows = await self._read(message.unit, plan, parameters)
        return _shape(plan, rows, into)

    async def one(
        self, statement: Any, /, *, into: type[Any] | None = None, **parameters: Any
    ) -> Any:
        """The first row, or None. See `Reads.one`."""
        message = self._mine()
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, 1)
        else:
            plan = self._plan(statement)
            rows = await self._read(message.unit, plan, parameters)
        return _shape(plan, rows[:1], into)[0] if rows else None

    async def value(self, statement: Any, /, **parameters: Any) -> Any:
        """The first column of the first row, or None. See `Reads.value`."""
        message = self._mine()
        if message.unit is None:
            plan, rows = await self._reading.rows(message, statement, parameters, 1)
        else:
            plan = self._plan(statement)
            rows = await self._read(message.unit, plan, parameters)
        return plan.value(rows[0]) if rows else None

    async def execute(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> int:
        """Run one writing statement now. See `Database.execute`."""
        return await self._write(self._writing(), self._plan(statement), parameters, refuse)

    async def execute_many(self, statement: Any, rows: Sequence[Mapping[str, Any]], /) -> int:
        """Run one writing statement for each row. See `Database.execute_many`."""
        return await self._write_many(self._writing(), self._plan(statement), rows)

    def buffer(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> None:
        """Hand over a write for the commit. See `Database.buffer`."""
        unit = self._writing()
        if unit.closed:
            raise ended()
        unit.buffered.append(
            BufferedWrite(statement=statement, parameters=parameters, refuse=refuse or {})
        )

    def _writing(self) -> Unit:
        message = self._mine()
        if message.unit is None:
            kind = "query" if message.kind is Kind.QUERY else message.kind.value
            raise OutOfUnitOfWorkError(
                f"{message.envelope.target} is a {kind} and has no unit of work, so it cannot "
                "write. Make it a command."
            )
        return message.unit


def ended() -> OutOfUnitOfWorkError:
    """The error for a statement that came when its unit of work had ended."""
    return OutOfUnitOfWorkError(
        "A task used the database after the unit of work of its message had ended. Nothing was "
        "changed by it. Await the task in the handler, before its first statement."
    )


def _shape(plan: Plan, rows: Sequence[Any], into: type[Any] | None) -> list[Any]:
    if into is None:
        return [plan.row(row) for row in rows]
    if not issubclass(into, msgspec.Struct):
        raise TypeError(f"into={into!r} is not a Struct.")
    return [plan.into(row, into) for row in rows]
