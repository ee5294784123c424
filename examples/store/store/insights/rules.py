"""What the insights decide: which day an order counts for, and what each product sold in it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from uuid import UUID

from store.orders.contract import PricedLine
from tenfold import Struct

__all__ = ["Sold", "day_of", "pieces_sold"]


class Sold(Struct):
    """What one order sold of one product. `revenue_minor` in the currency's smallest unit."""

    product_id: UUID
    sku: str
    name: str
    quantity: int
    revenue_minor: int
    revenue_currency: str


def day_of(moment: dt.datetime) -> dt.date:
    """The day, in UTC, that a moment falls on."""
    return moment.astimezone(dt.UTC).date()


def pieces_sold(lines: Iterable[PricedLine], currency: str) -> list[Sold]:
    """What an order sold, one entry for each product, lines of one product together."""
    sold: dict[UUID, Sold] = {}
    for line in lines:
        before = sold.get(line.product_id)
        revenue = line.unit_minor * line.quantity
        sold[line.product_id] = Sold(
            product_id=line.product_id,
            sku=line.sku,
            name=line.name,
            quantity=line.quantity + (before.quantity if before else 0),
            revenue_minor=revenue + (before.revenue_minor if before else 0),
            revenue_currency=currency,
        )
    return list(sold.values())
