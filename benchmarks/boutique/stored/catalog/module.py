"""The catalog's handlers, on a table."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.catalog.contract import Catalog, Product, ProductNotFound
from benchmarks.boutique.currency.contract import Amount
from benchmarks.boutique.stored.catalog import tables
from tenfold import Database, Struct

__all__ = ["CatalogModule"]


class _Row(Struct):
    id: str
    name: str
    description: str
    picture: str
    currency: str
    units: int
    nanos: int
    categories: list[str]


@final
class CatalogModule(Catalog):
    """Reads its products each time."""

    db: Database

    async def list_products(self) -> list[Product]:
        """All of them."""
        return [_product(row) for row in await self.db.all(tables.LIST_PRODUCTS, into=_Row)]

    async def get_product(self, product_id: str) -> Product:
        """One of them."""
        row = await self.db.one(tables.GET_PRODUCT, id=product_id, into=_Row)
        if row is None:
            raise ProductNotFound(product_id=product_id)
        return _product(row)


def _product(row: _Row) -> Product:
    return Product(
        id=row.id,
        name=row.name,
        description=row.description,
        picture=row.picture,
        price=Amount(currency=row.currency, units=row.units, nanos=row.nanos),
        categories=row.categories,
    )
