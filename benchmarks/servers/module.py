"""The same two handlers behind the full path."""

from __future__ import annotations

from typing import final
from uuid import UUID

from benchmarks.servers.contract import Thing, Things

__all__ = ["ThingsModule"]

_ID = UUID("0190163d-8694-739b-aea5-966c26f8ad90")


@final
class ThingsModule(Things):
    """Answers from memory."""

    async def get_thing(self, thing_id: UUID) -> Thing:
        """Read one."""
        return Thing(id=thing_id, sku="85123A", name="White heart", quantity=6, tags=["a", "b"])

    async def make_thing(self, sku: str, name: str, quantity: int, tags: list[str]) -> Thing:
        """Make one."""
        return Thing(id=_ID, sku=sku, name=name, quantity=quantity, tags=tags)
