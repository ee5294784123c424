"""How the platform's own records are read and written in a module's schema."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["Session"]

_T = TypeVar("_T")


class Session(Protocol):
    """The platform's own work on one module's schema, beside the handlers' units of work."""

    @property
    def schema(self) -> str:
        """The module's schema, quoted, to stand before the name of a table."""
        ...

    async def write(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run in a transaction of its own, read committed; returns after the commit.

        Where the connection was lost before the commit was sent, the work is run
        again; it must therefore change nothing but the database.

        Raises: what `work` raised, after a rollback; StoreUnavailableError
        (NOT_DONE, or MAYBE_DONE where the connection was lost at the commit).
        """
        ...

    async def read(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run on a connection to the primary; each statement sees the newest committed state."""
        ...
