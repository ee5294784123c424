"""Somebody who hears of each event, so that the relay and the queue have what they would have."""

from __future__ import annotations

from typing import Protocol, final

from benchmarks.servers.notes.contract import NoteAdded
from tenfold import Contract, subscribe

__all__ = ["Readers", "ReadersModule"]


class Readers(Contract, Protocol):
    """Offers nothing, and hears of what is added."""


@final
class ReadersModule(Readers):
    """Does nothing with what it hears."""

    @subscribe
    async def added(self, event: NoteAdded) -> None:
        """Hear of one."""
