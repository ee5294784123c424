"""The cart store's handlers, in the memory of the one process that hosts it.

A module of a product keeps no state that changes; this one does, so that there is a
boutique without a database. What it holds is gone with its process.
"""

from __future__ import annotations

from typing import final

from benchmarks.boutique.cartstore.contract import CartStore, Item
from benchmarks.boutique.cartstore.shelf import Shelf

__all__ = ["CartStoreModule"]


@final
class CartStoreModule(CartStore):
    """Keeps carts for as long as it lives."""

    def __init__(self) -> None:
        self._shelf = Shelf()

    async def read(self, user_id: str) -> list[Item]:
        """What is in a cart."""
        return [Item(product_id=p, quantity=q) for p, q in self._shelf.read(user_id)]

    async def add(self, user_id: str, product_id: str, quantity: int) -> None:
        """Put more in."""
        self._shelf.add(user_id, product_id, quantity)

    async def clear(self, user_id: str) -> None:
        """Take everything out."""
        self._shelf.clear(user_id)
