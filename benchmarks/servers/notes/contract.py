"""What all servers on PostgreSQL offer: a row with an event, and a row that is read."""

from __future__ import annotations

from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from tenfold import Contract, Event, Instant, Refusal, Struct, command, query

__all__ = ["Note", "NoteAdded", "NoteNotFound", "Notes"]

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Pieces = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Note(Struct):
    """The row."""

    id: UUID
    title: str
    quantity: int
    created_at: Instant


class NoteAdded(Event, key="note_id"):
    """A row was added."""

    note_id: UUID
    title: str
    quantity: int
    at: Instant


class NoteNotFound(Refusal, status=404):
    """There is no such row."""

    note_id: UUID


class Notes(Contract, Protocol):
    """One insert with one event, in both spellings, and one read that nothing caches."""

    @command("POST /v1/notes", who="anyone")
    async def add_note(self, title: Title, quantity: Pieces) -> Note:
        """Add one: the write is handed over, and goes out with the commit."""
        ...

    @command("POST /v1/notes-awaited", who="anyone")
    async def add_note_awaited(self, title: Title, quantity: Pieces) -> Note:
        """Add one: the write is awaited, as whoever needs its answer does."""
        ...

    @query("GET /v1/notes/{note_id}", who="anyone", raises=[NoteNotFound])
    async def get_note(self, note_id: UUID) -> Note:
        """Read one by its key."""
        ...
