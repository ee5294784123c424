"""What both FastAPI servers have in common: the bodies, the tables, and the size of the pool."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["POOL", "TABLES", "NewNote", "Note"]

POOL = 10
TABLES = """
CREATE TABLE IF NOT EXISTS notes (
    id uuid PRIMARY KEY, title text NOT NULL, quantity int NOT NULL, created_at timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id uuid NOT NULL,
    name text NOT NULL, order_key text NOT NULL, at timestamptz NOT NULL, body jsonb NOT NULL
)
"""


class NewNote(BaseModel):
    """The body."""

    title: Annotated[str, Field(min_length=1, max_length=200)]
    quantity: Annotated[int, Field(ge=1, le=1000)]


class Note(BaseModel):
    """The row."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    title: str
    quantity: int
    created_at: datetime
