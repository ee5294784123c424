"""The published face of the inventory: how much of each product there is, and for whom."""

from __future__ import annotations

from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from store.catalog.contract import MAX_BULK, ProductIds, ProductNotFound
from tenfold import Contract, Event, Money, Struct, command, query

__all__ = [
    "MAX_DELIVERIES",
    "MAX_QUANTITY",
    "Delivery",
    "DeliveryNo",
    "Inventory",
    "Quantity",
    "Received",
    "Shortage",
    "Stock",
    "StockLevel",
    "StockReserved",
    "StockShort",
]

MAX_QUANTITY = 1_000_000
"""The most pieces of one product that one line or one delivery can have."""

MAX_DELIVERIES = 500
"""How many deliveries one command takes in."""

Quantity = Annotated[
    int,
    msgspec.Meta(ge=1, le=MAX_QUANTITY, description="Whole pieces, 1 to 1,000,000."),
]
"""How many pieces of one product."""

DeliveryNo = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/-]{0,99}$(?!\n)")]
"""What tells one delivery from every other: a delivery is received once by its number."""


class Stock(Struct):
    """Pieces of one product: `free` to sell, `reserved` for placed orders, `sold` for good."""

    free: int
    reserved: int
    sold: int


class StockLevel(Struct):
    """The stock of one product with what was ever received: free + reserved + sold = received."""

    product_id: UUID
    received: int
    free: int
    reserved: int
    sold: int


class Received(Struct):
    """Pieces of one product in a delivery."""

    product_id: UUID
    quantity: Quantity


class Delivery(Struct):
    """Pieces that came in together. `delivery_no` is the sender's number for it."""

    delivery_no: DeliveryNo
    items: Annotated[list[Received], msgspec.Meta(min_length=1, max_length=5_000)]


class Shortage(Struct):
    """A product of which an order wanted more than there was free."""

    product_id: UUID
    wanted: int
    free: int


class StockReserved(Event, key="order_id"):
    """Every line of an order is set aside for it. `total` is what is to be paid."""

    order_id: UUID
    customer_id: str
    total: Money


class StockShort(Event, key="order_id"):
    """An order wanted more than there was free of some product; nothing was set aside for it."""

    order_id: UUID
    shortages: list[Shortage]


class Inventory(Contract, Protocol):
    """How much of each product there is: received, free, reserved and sold."""

    @command(
        "POST /v1/products/{product_id}/stock",
        who="operator",
        raises=[ProductNotFound],
    )
    async def receive_stock(self, product_id: UUID, quantity: Quantity) -> Stock:
        """Receive pieces of a product; returns its stock afterwards."""
        ...

    @query("GET /v1/products/{product_id}/stock", who="anyone", raises=[ProductNotFound])
    async def get_stock(self, product_id: UUID) -> Stock:
        """The stock of one product; all zero where none was received yet."""
        ...

    @query(who="internal")
    async def get_stocks(self, product_ids: ProductIds) -> list[StockLevel]:
        """The stock of these products, in no promised order; those never received are left out."""
        ...

    @query(who="internal")
    async def list_stocks(
        self,
        after: UUID | None = None,
        limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_BULK)] = MAX_BULK,
    ) -> list[StockLevel]:
        """Every product's stock in order of product id, `after` exclusive: for checks."""
        ...

    @command(who="internal")
    async def receive_deliveries(
        self,
        deliveries: Annotated[
            list[Delivery], msgspec.Meta(min_length=1, max_length=MAX_DELIVERIES)
        ],
    ) -> int:
        """Receive deliveries, each once by its number; returns how many of them were new.

        The products are not looked up: the caller has them from the catalog.
        """
        ...
