"""The port that a module's handlers see: their own database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, overload

from tenfold.contracts.refusals import Refusal

__all__ = ["Database", "Reads", "Row"]

_T = TypeVar("_T")
Row = Any
"""One row: a tuple whose columns are also attributes, under the names of the statement."""


class Reads(Protocol):
    """Reading statements. Parameters are the statement's `bindparam` names.

    With `into`, each row becomes that struct, by the names of its columns.
    """

    @overload
    async def all(self, statement: Any, /, *, into: type[_T], **parameters: Any) -> list[_T]: ...
    @overload
    async def all(self, statement: Any, /, **parameters: Any) -> list[Row]: ...
    async def all(self, statement: Any, /, **parameters: Any) -> list[Any]:
        """Every row, in the statement's order."""
        ...

    @overload
    async def one(self, statement: Any, /, *, into: type[_T], **parameters: Any) -> _T | None: ...
    @overload
    async def one(self, statement: Any, /, **parameters: Any) -> Row | None: ...
    async def one(self, statement: Any, /, **parameters: Any) -> Any:
        """The first row; None where there is none."""
        ...

    async def value(self, statement: Any, /, **parameters: Any) -> Any:
        """The first column of the first row; None where there is no row."""
        ...


class Database(Reads, Protocol):
    """A module's own database, inside the unit of work of the message being handled.

    In a command, job, schedule or subscription the first statement opens the
    unit of work; from then on the handler awaits nothing but its database. In a
    query each statement reads the newest committed state. Statements are
    SQLAlchemy Core; the tenant is added to each by the platform.
    """

    async def execute(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> int:
        """Run one writing statement now; returns how many rows it changed.

        `refuse` maps the name of a constraint to the refusal that its violation
        means, which is then raised.
        """
        ...

    async def execute_many(self, statement: Any, rows: Sequence[Mapping[str, Any]], /) -> int:
        """Run one writing statement for each row of parameters; returns rows changed in all."""
        ...

    def buffer(
        self, statement: Any, /, *, refuse: Mapping[str, Refusal] | None = None, **parameters: Any
    ) -> None:
        """Hand over a write that goes out with the commit, or before the next read.

        Its answer is not needed; `refuse` as in `execute`, raised at the commit.
        """
        ...

    @property
    def outside(self) -> Reads:
        """Reads that do not open the unit of work, for a handler that is still gathering.

        What they answer may have changed by the time of the commit.
        """
        ...
