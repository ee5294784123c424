"""The orders' table, and the statements that read and write it."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    insert,
    select,
    update,
)

from store.orders.contract import PricedLine
from tenfold.tables.columns import Instant, Json, Uuid, metadata, money, tenant

__all__ = [
    "ADD_ORDER",
    "CONFIRMED_TOTALS",
    "COUNT_ORDERS",
    "END_ORDER",
    "FIND_INVOICE",
    "GET_ORDER",
    "METADATA",
]

METADATA = metadata()

ORDERS = Table(
    "orders",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    *money("total"),
    Column("placed_at", Instant(), nullable=False),
    Column("invoice_no", Text),
    # Nothing asks for single lines, so they are one value. It stands last: what
    # counts and sums does not have to step over it.
    Column("lines", Json(list[PricedLine]), nullable=False),
    UniqueConstraint("tenant", "invoice_no", name="orders_tenant_invoice_no_unique"),
)

_THIS = ORDERS.c.id == bindparam("id")

ADD_ORDER = insert(ORDERS)
GET_ORDER = select(
    ORDERS.c.id,
    ORDERS.c.customer_id,
    ORDERS.c.lines,
    ORDERS.c.total_minor,
    ORDERS.c.total_currency,
    ORDERS.c.status,
    ORDERS.c.reason,
    ORDERS.c.placed_at,
).where(_THIS)
FIND_INVOICE = select(ORDERS.c.id).where(ORDERS.c.invoice_no == bindparam("invoice_no"))
END_ORDER = (
    update(ORDERS).where(_THIS).values(status=bindparam("status"), reason=bindparam("reason"))
)
COUNT_ORDERS = select(ORDERS.c.status, func.count().label("orders")).group_by(ORDERS.c.status)
CONFIRMED_TOTALS = (
    select(func.sum(ORDERS.c.total_minor).label("total_minor"), ORDERS.c.total_currency)
    .where(ORDERS.c.status == "confirmed")
    .group_by(ORDERS.c.total_currency)
    .order_by(ORDERS.c.total_currency)
)
