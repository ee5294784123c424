"""The published face of the catalog: what the store sells."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from tenfold import (
    Contract,
    Cursor,
    Event,
    Instant,
    Limit,
    Money,
    Page,
    Refusal,
    Struct,
    command,
    query,
)

__all__ = [
    "MAX_BULK",
    "MAX_PRICE_MINOR",
    "Catalog",
    "NewProduct",
    "PriceNotAllowed",
    "Product",
    "ProductAdded",
    "ProductIds",
    "ProductName",
    "ProductNotFound",
    "Search",
    "Sku",
    "SkuTaken",
]

MAX_BULK = 500
"""How many products one bulk operation takes."""

MAX_PRICE_MINOR = 10**9
"""The dearest price, in the currency's smallest unit: ten million pounds."""

# `$(?!\n)`: a Python `$` alone would let a trailing newline through.
Sku = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9 ._/-]{0,30}[A-Za-z0-9])?$(?!\n)",
        description="1 to 32 letters, digits, spaces, dots, dashes, slashes and underscores, "
        "beginning and ending with a letter or digit. Upper and lower case differ.",
        examples=["85123A", "gift_0001_20", "DOT"],
    ),
]
"""What the shop calls a product. Upper and lower case are different SKUs."""

ProductName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^\s*[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,198}[^\s\x00-\x1f\x7f])?\s*$",
        description="1 to 200 characters once the blanks around it are trimmed; "
        "no control characters.",
        examples=["White hanging heart T-light holder"],
    ),
]
"""A product's name as it is handed in: its length counts after trimming."""

Search = Annotated[
    str,
    msgspec.Meta(max_length=200, description="Words that the name has; the last may be begun."),
]
"""What somebody looks for."""

ProductIds = Annotated[list[UUID], msgspec.Meta(max_length=MAX_BULK)]
"""A bounded list of products."""


class Product(Struct):
    """Something that the store sells. `price` is for one piece."""

    id: UUID
    sku: str
    name: str
    price: Money
    created_at: datetime


class NewProduct(Struct):
    """A product that may be there already."""

    sku: Sku
    name: ProductName
    price: Money


class ProductAdded(Event, key="product_id"):
    """A product is on sale."""

    product_id: UUID
    sku: str
    name: str
    price: Money
    at: Instant


class ProductNotFound(Refusal, status=404):
    """No product has this id."""

    product_id: UUID


class SkuTaken(Refusal, status=409):
    """A product with this SKU exists."""

    sku: str


class PriceNotAllowed(Refusal, status=422):
    """A price must be above zero, and no dearer than the store sells."""

    price: Money
    highest: Money


class Catalog(Contract, Protocol):
    """What the store sells."""

    @command(
        "POST /v1/products",
        who="operator",
        raises=[SkuTaken, PriceNotAllowed],
        created="get_product",
    )
    async def add_product(self, sku: Sku, name: ProductName, price: Money) -> Product:
        """Add a product. The blanks around its name are trimmed."""
        ...

    @query("GET /v1/products/{product_id}", who="anyone", raises=[ProductNotFound], cache_s=60)
    async def get_product(self, product_id: UUID) -> Product:
        """One product."""
        ...

    @query("GET /v1/products", who="anyone")
    async def list_products(
        self, search: Search = "", limit: Limit = 20, cursor: Cursor | None = None
    ) -> Page[Product]:
        """Products in the order in which they were added.

        With `search`, those whose name has every word of it.
        """
        ...

    @command(who="internal", raises=[PriceNotAllowed])
    async def add_products(
        self, products: Annotated[list[NewProduct], msgspec.Meta(max_length=MAX_BULK)]
    ) -> list[Product]:
        """Add those products whose SKU is new; products that are there stay as they are.

        Returns: one product for each different SKU asked for, in the order of first mention.
        """
        ...

    @query(who="internal")
    async def find_products(
        self, skus: Annotated[list[Sku], msgspec.Meta(max_length=MAX_BULK)]
    ) -> list[Product]:
        """The products with these SKUs, in no promised order; unknown SKUs are left out."""
        ...

    @query(who="internal")
    async def get_products(self, product_ids: ProductIds) -> list[Product]:
        """The products with these ids, in no promised order; unknown ids are left out."""
        ...
