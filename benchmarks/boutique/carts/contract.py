"""Carts, as customers and other modules see them."""

from __future__ import annotations

from typing import Protocol

from benchmarks.boutique.cartstore.contract import Item, Pieces, UserId
from benchmarks.boutique.catalog.contract import ProductId, ProductNotFound
from tenfold import Contract, command, query

__all__ = ["Carts"]


class Carts(Contract, Protocol):
    """What customers mean to buy."""

    @command(
        "POST /v1/carts/{user_id}/items", who="anyone", key="required", raises=[ProductNotFound]
    )
    async def add_item(self, user_id: UserId, product_id: ProductId, quantity: Pieces) -> Item:
        """Put more of a product that there is into a cart."""
        ...

    @query(who="internal")
    async def get_cart(self, user_id: UserId) -> list[Item]:
        """What is in a cart."""
        ...

    @command(who="internal", key="required")
    async def empty_cart(self, user_id: UserId) -> None:
        """Take everything out."""
        ...
