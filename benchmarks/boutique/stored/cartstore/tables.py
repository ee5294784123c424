"""The carts' table, and the statements that read and write it."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text, bindparam, delete, select

from tenfold.tables.columns import metadata, tenant
from tenfold.tables.upsert import incoming, upsert

__all__ = ["ADD", "CLEAR", "METADATA", "READ"]

METADATA = metadata()

ITEMS = Table(
    "items",
    METADATA,
    tenant(),
    Column("user_id", Text, primary_key=True),
    Column("product_id", Text, primary_key=True),
    Column("quantity", Integer, nullable=False),
)

_THIS = ITEMS.c.user_id == bindparam("user_id")
READ = select(ITEMS.c.product_id, ITEMS.c.quantity).where(_THIS).order_by(ITEMS.c.product_id)
ADD = upsert(
    ITEMS,
    on=[ITEMS.c.user_id, ITEMS.c.product_id],
    set={ITEMS.c.quantity: ITEMS.c.quantity + incoming(ITEMS.c.quantity)},
)
CLEAR = delete(ITEMS).where(_THIS)
