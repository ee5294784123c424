"""A contract in a file of its own, since another stands beside the tests that call it."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, command

__all__ = ["Tally"]


class Tally(Contract, Protocol):
    """Counts."""

    @command(who="internal")
    async def add(self, number: int) -> int:
        """Add a number."""
        ...
