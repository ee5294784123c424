"""The probe's audit: what was noted about the ledger."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, command, query
from tenfold.testing.probe.ledger_contract import Name

__all__ = ["Audit"]


class Audit(Contract, Protocol):
    """What was noted about the ledger."""

    @command(who="internal")
    async def note(self, account: Name, text: str) -> int:
        """Write a note; returns how many there are."""
        ...

    @command(who="internal")
    async def mark(self, account: Name) -> int:
        """Write the note `marked`; returns how many notes there are."""
        ...

    @query(who="internal")
    async def notes(self, account: Name) -> list[str]:
        """The notes on an account, oldest first."""
        ...

    @query(who="internal", projections=["totals"])
    async def total(self, account: Name) -> int:
        """The sum of an account's deposits, from a projection."""
        ...
