"""The insights' handlers."""

from __future__ import annotations

import datetime as dt
from typing import final
from uuid import UUID

from store.insights.contract import BestSeller, DailySales, Insights
from store.insights.projections import BestSellers, SalesByDay
from tenfold import Database, Page, decode_cursor, encode_cursor

__all__ = ["InsightsModule"]


@final
class InsightsModule(Insights):
    """What sells: read models of the confirmed orders."""

    db: Database
    sellers: BestSellers
    days: SalesByDay

    async def best_sellers(self, limit: int = 10, cursor: str | None = None) -> Page[BestSeller]:
        """Products by pieces sold, most first."""
        after = None if cursor is None else decode_cursor(cursor, int, UUID, str)
        found = await self.sellers.page(limit + 1, after)
        items = found[:limit]
        if len(found) <= limit:
            return Page(items=items)
        last = items[-1]
        return Page(
            items=items,
            next=encode_cursor(last.quantity, last.product_id, last.revenue.currency),
        )

    async def daily_sales(
        self,
        from_: dt.date | None = None,
        to: dt.date | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[DailySales]:
        """Sales by the day on which the orders were placed, oldest first, both ends included."""
        after = (dt.date.min, "") if cursor is None else decode_cursor(cursor, dt.date, str)
        found = await self.days.page(from_ or dt.date.min, to or dt.date.max, limit + 1, after)
        items = found[:limit]
        if len(found) <= limit:
            return Page(items=items)
        last = items[-1]
        return Page(items=items, next=encode_cursor(last.date.isoformat(), last.revenue.currency))
