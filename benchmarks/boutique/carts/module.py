"""The carts' handlers."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.carts.contract import Carts
from benchmarks.boutique.cartstore.contract import CartStore, Item
from benchmarks.boutique.catalog.contract import Catalog

__all__ = ["CartsModule"]


@final
class CartsModule(Carts):
    """Lets in what there is, and has it kept."""

    catalog: Catalog
    store: CartStore

    async def add_item(self, user_id: str, product_id: str, quantity: int) -> Item:
        """Put more of a product in."""
        product = await self.catalog.get_product(product_id)
        await self.store.add(user_id, product.id, quantity)
        return Item(product_id=product.id, quantity=quantity)

    async def get_cart(self, user_id: str) -> list[Item]:
        """What is in a cart."""
        return await self.store.read(user_id)

    async def empty_cart(self, user_id: str) -> None:
        """Take everything out."""
        await self.store.clear(user_id)
