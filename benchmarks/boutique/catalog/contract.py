"""What the boutique sells."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from benchmarks.boutique.currency.contract import Amount
from tenfold import Contract, Refusal, Struct, query

__all__ = ["Catalog", "Product", "ProductId", "ProductNotFound"]

ProductId = Annotated[str, msgspec.Meta(pattern="^[A-Z0-9]{10}$")]


class Product(Struct):
    """Something that the boutique sells."""

    id: str
    name: str
    description: str
    picture: str
    price: Amount
    categories: list[str]


class ProductNotFound(Refusal, status=404):
    """No product has this id."""

    product_id: str


class Catalog(Contract, Protocol):
    """Products and their prices."""

    @query(who="internal")
    async def list_products(self) -> list[Product]:
        """All of them, by id."""
        ...

    @query(who="internal", raises=[ProductNotFound])
    async def get_product(self, product_id: ProductId) -> Product:
        """One of them."""
        ...
