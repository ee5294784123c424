"""The orders' table, and the statement that fills it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text, insert

from benchmarks.boutique.checkout.contract import OrderLine
from tenfold.tables.columns import Instant, Json, Uuid, metadata, tenant

__all__ = ["ADD_ORDER", "METADATA"]

METADATA = metadata()

ORDERS = Table(
    "orders",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("transaction", Text, nullable=False),
    Column("tracking", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("nanos", Integer, nullable=False),
    Column("placed_at", Instant(), nullable=False),
    Column("lines", Json(list[OrderLine]), nullable=False),
)

ADD_ORDER = insert(ORDERS)
