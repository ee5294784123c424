"""Orders, as customers and other modules see them."""

from __future__ import annotations

from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from benchmarks.boutique.cartstore.contract import UserId
from benchmarks.boutique.catalog.contract import ProductNotFound
from benchmarks.boutique.currency.contract import Amount, Code, UnknownCurrency
from benchmarks.boutique.payments.contract import Card, CardDeclined
from benchmarks.boutique.shipping.contract import Address
from tenfold import Contract, Refusal, Struct, command

__all__ = ["CartEmpty", "Checkout", "Email", "Order", "OrderLine"]

Email = Annotated[str, msgspec.Meta(pattern=r"^[^@\s]+@[^@\s]+$", max_length=200)]


class OrderLine(Struct):
    """So many pieces of a product, and what one of them costs."""

    product_id: str
    quantity: int
    cost: Amount


class Order(Struct):
    """What somebody has bought."""

    id: UUID
    transaction: str
    tracking: str
    shipping: Amount
    address: Address
    lines: list[OrderLine]
    total: Amount


class CartEmpty(Refusal, status=409):
    """There is nothing to buy."""

    user_id: str


class Checkout(Contract, Protocol):
    """Turns carts into orders."""

    @command(
        "POST /v1/orders",
        who="anyone",
        key="required",
        raises=[CartEmpty, CardDeclined, ProductNotFound, UnknownCurrency],
    )
    async def place_order(
        self, user_id: UserId, currency: Code, address: Address, email: Email, card: Card
    ) -> Order:
        """Buy what is in a cart."""
        ...
