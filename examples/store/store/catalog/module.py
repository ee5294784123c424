"""The catalog's handlers."""

from __future__ import annotations

from typing import Any, final
from uuid import UUID

from store.catalog import rules, tables
from store.catalog.contract import (
    Catalog,
    NewProduct,
    Product,
    ProductAdded,
    ProductNotFound,
    SkuTaken,
)
from tenfold import Database, Money, Page, decode_cursor, encode_cursor, new_id, now, publish

__all__ = ["CatalogModule"]

_FIRST = UUID(int=0)


@final
class CatalogModule(Catalog):
    """What the store sells."""

    db: Database

    async def add_product(self, sku: str, name: str, price: Money) -> Product:
        """Add a product."""
        new = NewProduct(sku=sku, name=name, price=price)
        product = rules.decide_product(new, new_id(), now())
        await self.db.execute(
            tables.ADD_PRODUCT, refuse={tables.SKU_UNIQUE: SkuTaken(sku=sku)}, **_row(product)
        )
        _announce(product)
        return product

    async def get_product(self, product_id: UUID) -> Product:
        """One product."""
        product = await self.db.one(tables.GET_PRODUCT, id=product_id, into=Product)
        if product is None:
            raise ProductNotFound(product_id=product_id)
        return product

    async def list_products(
        self, search: str = "", limit: int = 20, cursor: str | None = None
    ) -> Page[Product]:
        """Products in the order in which they were added; with `search`, those found by name."""
        after = _FIRST if cursor is None else decode_cursor(cursor, UUID)[0]
        if search.strip():
            found = await self.db.all(
                tables.SEARCH_PRODUCTS, search=search, after=after, most=limit + 1, into=Product
            )
        else:
            found = await self.db.all(
                tables.LIST_PRODUCTS, after=after, most=limit + 1, into=Product
            )
        items = found[:limit]
        return Page(items=items, next=encode_cursor(items[-1].id) if len(found) > limit else None)

    async def add_products(self, products: list[NewProduct]) -> list[Product]:
        """Add those products whose SKU is new; products that are there stay as they are."""
        skus = list(dict.fromkeys(new.sku for new in products))
        there = await self.db.all(tables.FIND_PRODUCTS, skus=skus, into=Product)
        added, all_of_them = rules.decide_missing(products, there, new_id, now())
        if added:
            await self.db.execute_many(tables.ADD_PRODUCT, [_row(product) for product in added])
        for product in added:
            _announce(product)
        return all_of_them

    async def find_products(self, skus: list[str]) -> list[Product]:
        """The products with these SKUs; SKUs that no product has are left out."""
        return await self.db.all(tables.FIND_PRODUCTS, skus=skus, into=Product)

    async def get_products(self, product_ids: list[UUID]) -> list[Product]:
        """The products with these ids; unknown ids are left out."""
        return await self.db.all(tables.SELECT_PRODUCTS, ids=product_ids, into=Product)


def _row(product: Product) -> dict[str, Any]:
    return {
        "id": product.id,
        "sku": product.sku,
        "name": product.name,
        "price": product.price,
        "created_at": product.created_at,
    }


def _announce(product: Product) -> None:
    publish(
        ProductAdded(
            product_id=product.id,
            sku=product.sku,
            name=product.name,
            price=product.price,
            at=product.created_at,
        )
    )
