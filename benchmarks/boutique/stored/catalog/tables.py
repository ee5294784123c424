"""The catalog's table, and the statements that read it."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text, bindparam, select

from tenfold.tables.columns import Json, metadata, tenant

__all__ = ["GET_PRODUCT", "LIST_PRODUCTS", "METADATA"]

METADATA = metadata()

PRODUCTS = Table(
    "products",
    METADATA,
    tenant(),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("picture", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("nanos", Integer, nullable=False),
    Column("categories", Json(list[str]), nullable=False),
)

_PRODUCT = select(
    PRODUCTS.c.id,
    PRODUCTS.c.name,
    PRODUCTS.c.description,
    PRODUCTS.c.picture,
    PRODUCTS.c.currency,
    PRODUCTS.c.units,
    PRODUCTS.c.nanos,
    PRODUCTS.c.categories,
)
GET_PRODUCT = _PRODUCT.where(PRODUCTS.c.id == bindparam("id"))
LIST_PRODUCTS = _PRODUCT.order_by(PRODUCTS.c.id)
