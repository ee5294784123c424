"""The handlers, as an author writes them."""

from __future__ import annotations

from typing import Any, final
from uuid import UUID

from sqlalchemy import Column, Integer, Table, Text, bindparam, insert, select

from benchmarks.servers.notes.contract import Note, NoteAdded, NoteNotFound, Notes
from tenfold import Database, new_id, now, publish
from tenfold.tables.columns import Instant, Uuid, metadata, tenant

__all__ = ["NotesModule"]

METADATA = metadata()
NOTES = Table(
    "notes",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("title", Text, nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("created_at", Instant(), nullable=False),
)
ADD = insert(NOTES)
GET = select(NOTES.c.id, NOTES.c.title, NOTES.c.quantity, NOTES.c.created_at).where(
    NOTES.c.id == bindparam("id")
)


@final
class NotesModule(Notes):
    """Adds rows and reads them."""

    db: Database

    async def add_note(self, title: str, quantity: int) -> Note:
        """Add one."""
        note = Note(id=new_id(), title=title, quantity=quantity, created_at=now())
        self.db.buffer(ADD, **_row(note))
        _announce(note)
        return note

    async def add_note_awaited(self, title: str, quantity: int) -> Note:
        """Add one, now."""
        note = Note(id=new_id(), title=title, quantity=quantity, created_at=now())
        await self.db.execute(ADD, **_row(note))
        _announce(note)
        return note

    async def get_note(self, note_id: UUID) -> Note:
        """Read one."""
        note = await self.db.one(GET, id=note_id, into=Note)
        if note is None:
            raise NoteNotFound(note_id=note_id)
        return note


def _row(note: Note) -> dict[str, Any]:
    return {
        "id": note.id,
        "title": note.title,
        "quantity": note.quantity,
        "created_at": note.created_at,
    }


def _announce(note: Note) -> None:
    publish(
        NoteAdded(note_id=note.id, title=note.title, quantity=note.quantity, at=note.created_at)
    )
