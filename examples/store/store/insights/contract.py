"""The published face of the insights: what sells, and how much of it."""

from __future__ import annotations

import datetime as dt
from typing import Protocol
from uuid import UUID

from tenfold import Contract, Cursor, Limit, Money, Page, Struct, query

__all__ = ["BestSeller", "DailySales", "Insights"]


class BestSeller(Struct):
    """A product's confirmed sales in one currency: pieces, and what they brought."""

    product_id: UUID
    sku: str
    name: str
    quantity: int
    revenue: Money


class DailySales(Struct):
    """The confirmed orders that were placed on one day (UTC), in one currency."""

    date: dt.date
    orders: int
    revenue: Money


class Insights(Contract, Protocol):
    """What sells: read models of the confirmed orders."""

    @query("GET /v1/insights/best-sellers", who="anyone", projections=["best_sellers"])
    async def best_sellers(
        self, limit: Limit = 10, cursor: Cursor | None = None
    ) -> Page[BestSeller]:
        """Products by pieces sold, most first."""
        ...

    @query("GET /v1/insights/daily-sales", who="operator", projections=["daily_sales"])
    async def daily_sales(
        self,
        from_: dt.date | None = None,
        to: dt.date | None = None,
        limit: Limit = 100,
        cursor: Cursor | None = None,
    ) -> Page[DailySales]:
        """Sales by the day on which the orders were placed, oldest first, both ends included."""
        ...
