"""What is advertised."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, Struct, query

__all__ = ["Ad", "Ads"]


class Ad(Struct):
    """A line that leads to a product."""

    text: str
    product_id: str


class Ads(Contract, Protocol):
    """Chooses advertisements."""

    @query(who="internal")
    async def choose(self, categories: list[str]) -> list[Ad]:
        """Those that go with categories, or one that goes with anything."""
        ...
