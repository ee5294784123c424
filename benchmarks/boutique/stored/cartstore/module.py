"""The cart store's handlers, on a table."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.cartstore.contract import CartStore, Item
from benchmarks.boutique.stored.cartstore import tables
from tenfold import Database

__all__ = ["CartStoreModule"]


@final
class CartStoreModule(CartStore):
    """A row for each product in a cart."""

    db: Database

    async def read(self, user_id: str) -> list[Item]:
        """What is in a cart."""
        return await self.db.all(tables.READ, user_id=user_id, into=Item)

    async def add(self, user_id: str, product_id: str, quantity: int) -> None:
        """Put more in."""
        self.db.buffer(tables.ADD, user_id=user_id, product_id=product_id, quantity=quantity)

    async def clear(self, user_id: str) -> None:
        """Take everything out."""
        self.db.buffer(tables.CLEAR, user_id=user_id)
