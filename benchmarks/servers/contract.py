"""What all three HTTP servers offer: a read, and a body that is validated."""

from __future__ import annotations

from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from tenfold import Contract, Struct, command, query

__all__ = ["Thing", "Things"]

Sku = Annotated[str, msgspec.Meta(pattern="^[A-Z0-9-]{1,32}$")]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Pieces = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Thing(Struct):
    """What is read and made."""

    id: UUID
    sku: str
    name: str
    quantity: int
    tags: list[str]


class Things(Contract, Protocol):
    """No database: only what the path and the edge cost."""

    @query("GET /v1/things/{thing_id}", who="anyone")
    async def get_thing(self, thing_id: UUID) -> Thing:
        """Read one."""
        ...

    @command("POST /v1/things", who="anyone")
    async def make_thing(self, sku: Sku, name: Name, quantity: Pieces, tags: list[Name]) -> Thing:
        """Make one of a validated body."""
        ...
