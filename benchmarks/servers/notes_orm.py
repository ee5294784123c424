"""The same in FastAPI with SQLAlchemy's ORM on asyncpg, and an outbox row in the transaction."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from fastapi import FastAPI, HTTPException
from sqlalchemy import BigInteger, DateTime, Identity
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.servers.notes_fast import POOL, TABLES, NewNote, Note

__all__ = ["app"]


class Base(DeclarativeBase):
    """The mapped tables."""


class NoteRow(Base):
    """The row."""

    __tablename__ = "notes"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    quantity: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class OutboxRow(Base):
    """The event."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    message_id: Mapped[UUID]
    name: Mapped[str]
    order_key: Mapped[str]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    body: Mapped[dict[str, Any]] = mapped_column(JSONB)


engine = create_async_engine(
    os.environ["BENCH_URL"].replace("postgresql://", "postgresql+asyncpg://", 1),
    pool_size=POOL,
    max_overflow=0,
    isolation_level="SERIALIZABLE",
)
Sessions = async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the tables, and close the pool at the end."""
    async with engine.begin() as connection:
        for statement in TABLES.split(";"):
            await connection.exec_driver_sql(statement)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether it serves."""
    return {}


@app.post("/v1/notes", status_code=201)
async def add_note(new: NewNote) -> Note:
    """Add one, with its event."""
    note = NoteRow(id=uuid4(), title=new.title, quantity=new.quantity, created_at=datetime.now(UTC))
    async with Sessions.begin() as session:
        session.add(note)
        session.add(
            OutboxRow(
                message_id=uuid4(),
                name="notes.NoteAdded",
                order_key=str(note.id),
                at=note.created_at,
                body={"note_id": str(note.id), "title": note.title, "quantity": note.quantity},
            )
        )
    return Note.model_validate(note)


@app.get("/v1/notes/{note_id}")
async def get_note(note_id: UUID) -> Note:
    """Read one by its key."""
    async with Sessions() as session:
        note = await session.get(NoteRow, note_id)
    if note is None:
        raise HTTPException(404)
    return Note.model_validate(note)
