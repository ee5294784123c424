"""The catalog's table, and the statements that read and write it."""

from __future__ import annotations

from sqlalchemy import Column, Table, Text, UniqueConstraint, bindparam, insert, select

from tenfold.tables.columns import Instant, Uuid, metadata, money, tenant
from tenfold.tables.search import SearchIndex, matches

__all__ = [
    "ADD_PRODUCT",
    "FIND_PRODUCTS",
    "GET_PRODUCT",
    "LIST_PRODUCTS",
    "SEARCH_PRODUCTS",
    "SELECT_PRODUCTS",
    "SKU_UNIQUE",
    "METADATA",
]

SKU_UNIQUE = "products_tenant_sku_unique"
"""The constraint that one SKU has one product."""

METADATA = metadata()

PRODUCTS = Table(
    "products",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("sku", Text, nullable=False),
    Column("name", Text, nullable=False),
    *money("price"),
    Column("created_at", Instant(), nullable=False),
    UniqueConstraint("tenant", "sku", name=SKU_UNIQUE),
)
PRODUCT_SEARCH = SearchIndex("products_search", PRODUCTS.c.name)

_PRODUCT = select(
    PRODUCTS.c.id,
    PRODUCTS.c.sku,
    PRODUCTS.c.name,
    PRODUCTS.c.price_minor,
    PRODUCTS.c.price_currency,
    PRODUCTS.c.created_at,
)

ADD_PRODUCT = insert(PRODUCTS)
GET_PRODUCT = _PRODUCT.where(PRODUCTS.c.id == bindparam("id"))
SELECT_PRODUCTS = _PRODUCT.where(PRODUCTS.c.id.in_(bindparam("ids", expanding=True)))
FIND_PRODUCTS = _PRODUCT.where(PRODUCTS.c.sku.in_(bindparam("skus", expanding=True)))
# Ids grow with time, so their order is that in which products were added.
LIST_PRODUCTS = (
    _PRODUCT.where(PRODUCTS.c.id > bindparam("after"))
    .order_by(PRODUCTS.c.id)
    .limit(bindparam("most"))
)
SEARCH_PRODUCTS = LIST_PRODUCTS.where(matches(PRODUCTS.c.name, bindparam("search")))
