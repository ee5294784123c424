"""The published face of the orders: what customers asked for, and what became of it."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from store.inventory.contract import Quantity
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
    "MAX_INVOICE_LINES",
    "MAX_LINES",
    "MAX_TOTAL_MINOR",
    "CustomerId",
    "InvoiceLine",
    "InvoiceNo",
    "InvoiceRecorded",
    "Line",
    "MixedCurrencies",
    "Order",
    "OrderConfirmed",
    "OrderCounts",
    "OrderLine",
    "OrderNotFound",
    "OrderPlaced",
    "OrderRejected",
    "OrderStatus",
    "OrderTooLarge",
    "Orders",
    "PricedLine",
    "RejectionReason",
    "UnknownProducts",
]

MAX_LINES = 200
"""How many lines a customer's order can have."""

MAX_INVOICE_LINES = 2_000
"""How many lines a recorded invoice can have."""

MAX_TOTAL_MINOR = 10**11
"""The largest total of one order, in the currency's smallest unit: a thousand million pounds."""

CustomerId = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$(?!\n)",
        description="1 to 64 letters, digits and `._@+-`, beginning with a letter or digit.",
        examples=["17850"],
    ),
]
"""Who buys, as the shop numbers its customers."""

InvoiceNo = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,31}$(?!\n)")]
"""The number of an invoice that another system wrote."""


class OrderStatus(str, Enum):
    """Where an order stands. `confirmed` and `rejected` are final."""

    PLACED = "placed"
    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class RejectionReason(str, Enum):
    """Why an order was rejected."""

    OUT_OF_STOCK = "out_of_stock"
    PAYMENT_DECLINED = "payment_declined"


class Line(Struct):
    """What a customer asks for: so many pieces of one product."""

    product_id: UUID
    quantity: Quantity


class InvoiceLine(Struct):
    """One line of an invoice as it was written: `unit_price` is what one piece cost then."""

    product_id: UUID
    quantity: Quantity
    unit_price: Money


class OrderLine(Struct):
    """One line of an order, with the product's name and price as they were when it was placed."""

    product_id: UUID
    sku: str
    name: str
    quantity: int
    unit_price: Money


class PricedLine(Struct):
    """One line as events carry it: `unit_minor` is the price of one piece, in the smallest unit
    of the currency of the order's total.

    Every subscriber reads every line, so a line holds a number where `OrderLine` has `Money`:
    reading the prices alone was a quarter of what an order cost.
    """

    product_id: UUID
    sku: str
    name: str
    quantity: int
    unit_minor: int


class Order(Struct, omit_defaults=True):
    """An order. `reason` is there when it was rejected."""

    id: UUID
    customer_id: str
    lines: list[OrderLine]
    total: Money
    status: OrderStatus
    placed_at: Instant
    reason: RejectionReason | None = None


class InvoiceRecorded(Struct):
    """What became of an invoice: its order, and whether it was recorded just now."""

    order_id: UUID
    new: bool


class OrderCounts(Struct):
    """How many orders stand where."""

    placed: int
    confirmed: int
    rejected: int


class OrderPlaced(Event, key="order_id"):
    """An order was accepted; it will end confirmed or rejected."""

    order_id: UUID
    customer_id: str
    lines: list[PricedLine]
    total: Money
    placed_at: Instant


class OrderConfirmed(Event, key="order_id"):
    """An order is set aside and paid for."""

    order_id: UUID
    customer_id: str
    lines: list[PricedLine]
    total: Money
    placed_at: Instant


class OrderRejected(Event, key="order_id"):
    """An order came to nothing, and costs nothing."""

    order_id: UUID
    customer_id: str
    reason: RejectionReason


class OrderNotFound(Refusal, status=404):
    """No order has this id."""

    order_id: UUID


class UnknownProducts(Refusal, status=422):
    """The order has products that the store does not sell."""

    product_ids: list[UUID]


class MixedCurrencies(Refusal, status=422):
    """The order has products priced in different currencies; order them separately."""

    currencies: list[str]


class OrderTooLarge(Refusal, status=422):
    """The order costs more than the store takes in one order; divide it."""

    highest: Money


class Orders(Contract, Protocol):
    """What customers asked for, and what became of it."""

    @command(
        "POST /v1/orders",
        who="anyone",
        raises=[UnknownProducts, MixedCurrencies, OrderTooLarge],
        created="get_order",
        settled_by=[OrderConfirmed, OrderRejected],
    )
    async def place_order(
        self,
        customer_id: CustomerId,
        lines: Annotated[list[Line], msgspec.Meta(min_length=1, max_length=MAX_LINES)],
    ) -> Order:
        """Place an order at today's prices; it is confirmed or rejected soon after.

        Lines of the same product become one.
        """
        ...

    @query("GET /v1/orders/{order_id}", who="anyone", raises=[OrderNotFound])
    async def get_order(self, order_id: UUID) -> Order:
        """One order."""
        ...

    @query("GET /v1/customers/{customer_id}/orders", who="operator", projections=["order_history"])
    async def list_customer_orders(
        self, customer_id: CustomerId, limit: Limit = 20, cursor: Cursor | None = None
    ) -> Page[Order]:
        """A customer's orders, newest first."""
        ...

    @command(who="internal", raises=[UnknownProducts, MixedCurrencies, OrderTooLarge])
    async def record_invoice(
        self,
        invoice_no: InvoiceNo,
        customer_id: CustomerId,
        lines: Annotated[
            list[InvoiceLine], msgspec.Meta(min_length=1, max_length=MAX_INVOICE_LINES)
        ],
        placed_at: Instant,
    ) -> InvoiceRecorded:
        """Record an invoice of the past as an order, at its own prices and time.

        From there it takes the path of any other order. A second call with the
        number changes nothing and returns the first's order.
        """
        ...

    @query(who="internal")
    async def count_orders(self) -> OrderCounts:
        """How many orders stand where."""
        ...

    @query(who="internal")
    async def confirmed_totals(self) -> list[Money]:
        """The sum of all confirmed orders, one amount for each currency."""
        ...
