"""Where carts are kept, by customer: what is a cache in other shops."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from benchmarks.boutique.catalog.contract import ProductId
from tenfold import Contract, Struct, command, query

__all__ = ["CartStore", "Item", "Pieces", "UserId"]

UserId = Annotated[str, msgspec.Meta(pattern="^[a-z0-9-]{1,40}$")]
Pieces = Annotated[int, msgspec.Meta(ge=1, le=10)]


class Item(Struct):
    """So many pieces of a product."""

    product_id: str
    quantity: int


class CartStore(Contract, Protocol):
    """Keeps what is in carts, and knows no more of it."""

    @query(who="internal")
    async def read(self, user_id: UserId) -> list[Item]:
        """What is in a customer's cart, by product."""
        ...

    @command(who="internal")
    async def add(self, user_id: UserId, product_id: ProductId, quantity: Pieces) -> None:
        """Put more of a product in."""
        ...

    @command(who="internal")
    async def clear(self, user_id: UserId) -> None:
        """Take everything out."""
        ...
