"""The insights' read models, kept from confirmed orders."""

from __future__ import annotations

import datetime as dt
from typing import ClassVar
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, String, Table, Text, and_, bindparam, or_, select

from store.insights import rules
from store.insights.contract import BestSeller, DailySales
from store.orders.contract import OrderConfirmed
from tenfold import Database, Projection, subscribe
from tenfold.tables.columns import Day, Minor, Uuid, metadata, tenant
from tenfold.tables.upsert import incoming, upsert

__all__ = ["BestSellers", "SalesByDay"]

_tables = metadata()

_SELLERS = Table(
    "best_sellers",
    _tables,
    tenant(),
    Column("product_id", Uuid(), primary_key=True),
    Column("revenue_currency", String(3), primary_key=True),
    Column("sku", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("revenue_minor", Minor(), nullable=False),
)
_S = _SELLERS.c

_ADD_SOLD = upsert(
    _SELLERS,
    on=[_S.product_id, _S.revenue_currency],
    set={
        _S.sku: incoming(_S.sku),
        _S.name: incoming(_S.name),
        _S.quantity: _S.quantity + incoming(_S.quantity),
        _S.revenue_minor: _S.revenue_minor + incoming(_S.revenue_minor),
    },
)
_MOST_SOLD = (
    select(_S.product_id, _S.sku, _S.name, _S.quantity, _S.revenue_minor, _S.revenue_currency)
    .order_by(_S.quantity.desc(), _S.product_id, _S.revenue_currency)
    .limit(bindparam("most"))
)
_NEXT_SOLD = _MOST_SOLD.where(
    or_(
        _S.quantity < bindparam("quantity"),
        and_(
            _S.quantity == bindparam("quantity"),
            or_(
                _S.product_id > bindparam("product_id"),
                and_(
                    _S.product_id == bindparam("product_id"),
                    _S.revenue_currency > bindparam("currency"),
                ),
            ),
        ),
    )
)

_DAYS = Table(
    "daily_sales",
    _tables,
    tenant(),
    Column("date", Day(), primary_key=True),
    Column("revenue_currency", String(3), primary_key=True),
    Column("orders", BigInteger, nullable=False),
    Column("revenue_minor", Minor(), nullable=False),
)
_D = _DAYS.c

_ADD_ORDER = upsert(
    _DAYS,
    on=[_D.date, _D.revenue_currency],
    set={
        _D.orders: _D.orders + incoming(_D.orders),
        _D.revenue_minor: _D.revenue_minor + incoming(_D.revenue_minor),
    },
)
_BY_DAY = (
    select(_D.date, _D.orders, _D.revenue_minor, _D.revenue_currency)
    .where(
        _D.date >= bindparam("first"),
        _D.date <= bindparam("last"),
        or_(
            _D.date > bindparam("after"),
            and_(_D.date == bindparam("after"), _D.revenue_currency > bindparam("currency")),
        ),
    )
    .order_by(_D.date, _D.revenue_currency)
    .limit(bindparam("most"))
)


class BestSellers(Projection):
    """Pieces and revenue of each product, in each currency."""

    name: ClassVar[str] = "best_sellers"
    tables: ClassVar[tuple[Table, ...]] = (_SELLERS,)
    db: Database

    @subscribe
    async def confirmed(self, event: OrderConfirmed) -> None:
        """A confirmed order adds what it sold."""
        sold = rules.pieces_sold(event.lines, event.total.currency)
        await self.db.execute_many(_ADD_SOLD, [msgspec.structs.asdict(each) for each in sold])

    async def page(self, limit: int, after: tuple[int, UUID, str] | None) -> list[BestSeller]:
        """Products by pieces sold, most first, `after` exclusive."""
        if after is None:
            return await self.db.all(_MOST_SOLD, most=limit, into=BestSeller)
        quantity, product_id, currency = after
        return await self.db.all(
            _NEXT_SOLD,
            most=limit,
            quantity=quantity,
            product_id=product_id,
            currency=currency,
            into=BestSeller,
        )


class SalesByDay(Projection):
    """Orders and revenue of each day on which orders were placed, in each currency."""

    name: ClassVar[str] = "daily_sales"
    tables: ClassVar[tuple[Table, ...]] = (_DAYS,)
    db: Database

    @subscribe
    async def confirmed(self, event: OrderConfirmed) -> None:
        """A confirmed order counts for the day on which it was placed."""
        await self.db.execute(
            _ADD_ORDER,
            date=rules.day_of(event.placed_at),
            orders=1,
            revenue_minor=event.total.minor,
            revenue_currency=event.total.currency,
        )

    async def page(
        self, first: dt.date, last: dt.date, limit: int, after: tuple[dt.date, str]
    ) -> list[DailySales]:
        """Days from `first` to `last`, both included, oldest first, `after` exclusive."""
        day, currency = after
        return await self.db.all(
            _BY_DAY,
            first=first,
            last=last,
            after=day,
            currency=currency,
            most=limit,
            into=DailySales,
        )
