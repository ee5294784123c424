"""The checkout's handler, which keeps what it sells."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.checkout.contract import Order
from benchmarks.boutique.checkout.module import CheckoutModule
from benchmarks.boutique.payments.contract import Card
from benchmarks.boutique.shipping.contract import Address
from benchmarks.boutique.stored.checkout import tables
from tenfold import Database, now

__all__ = ["StoredCheckoutModule"]


@final
class StoredCheckoutModule(CheckoutModule):
    """A row for each order."""

    db: Database

    async def place_order(
        self, user_id: str, currency: str, address: Address, email: str, card: Card
    ) -> Order:
        """Buy what is in a cart."""
        order = await super().place_order(user_id, currency, address, email, card)
        self.db.buffer(
            tables.ADD_ORDER,
            id=order.id,
            user_id=user_id,
            email=email,
            transaction=order.transaction,
            tracking=order.tracking,
            currency=order.total.currency,
            units=order.total.units,
            nanos=order.total.nanos,
            placed_at=now(),
            lines=order.lines,
        )
        return order
