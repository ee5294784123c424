"""How the platform's own records are read and written in a module's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Protocol, TypeVar

__all__ = ["Session"]

_T = TypeVar("_T")


class Session(Protocol):
    """The platform's own work on one module's file, beside the handlers' units of work."""

    async def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run on the writer's thread in a savepoint of its own; returns after the commit.

        Raises: what `work` raised, after a rollback of its own writes;
        StoreUnavailableError (NOT_DONE).
        """
        ...

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Run on a reader's thread, on the newest committed state."""
        ...
