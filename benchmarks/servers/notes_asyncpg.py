"""The same in FastAPI with asyncpg's pool and statements written by hand."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
from fastapi import FastAPI, HTTPException

from benchmarks.servers.notes_fast import POOL, TABLES, NewNote, Note

__all__ = ["app"]

ADD = "INSERT INTO notes (id, title, quantity, created_at) VALUES ($1, $2, $3, $4)"
EVENT = """
INSERT INTO outbox (message_id, name, order_key, at, body) VALUES ($1, $2, $3, $4, $5)
"""
GET = "SELECT id, title, quantity, created_at FROM notes WHERE id = $1"
pool: "asyncpg.Pool[Any]"


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the pool, and make the tables."""
    global pool
    async with asyncpg.create_pool(os.environ["BENCH_URL"], min_size=POOL, max_size=POOL) as pool:
        await pool.execute(TABLES)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/ready")
async def ready() -> dict[str, str]:
    """Whether it serves."""
    return {}


@app.post("/v1/notes", status_code=201)
async def add_note(new: NewNote) -> Note:
    """Add one, with its event."""
    id_, at = uuid4(), datetime.now(UTC)
    body = msgspec.json.encode(
        {"note_id": str(id_), "title": new.title, "quantity": new.quantity}
    ).decode()
    async with pool.acquire() as connection, connection.transaction(isolation="serializable"):
        await connection.execute(ADD, id_, new.title, new.quantity, at)
        await connection.execute(EVENT, uuid4(), "notes.NoteAdded", str(id_), at, body)
    return Note(id=id_, title=new.title, quantity=new.quantity, created_at=at)


@app.get("/v1/notes/{note_id}")
async def get_note(note_id: UUID) -> Note:
    """Read one by its key."""
    async with pool.acquire() as connection:
        row = await connection.fetchrow(GET, note_id)
    if row is None:
        raise HTTPException(404)
    return Note(**row)
