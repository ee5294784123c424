"""The shipping's handlers."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.cartstore.contract import Item
from benchmarks.boutique.currency.contract import Amount
from benchmarks.boutique.shipping import rules
from benchmarks.boutique.shipping.contract import Address, Shipping

__all__ = ["ShippingModule"]


@final
class ShippingModule(Shipping):
    """Counts pieces."""

    async def quote(self, address: Address, items: list[Item]) -> Amount:
        """What it costs."""
        cents = rules.cost_cents(sum(item.quantity for item in items))
        return Amount(currency="USD", units=cents // 100, nanos=cents % 100 * 10_000_000)

    async def ship(self, address: Address, items: list[Item]) -> str:
        """The parcel's number."""
        pieces = sum(item.quantity for item in items)
        return rules.tracking(address.street, address.city, address.state, pieces)
