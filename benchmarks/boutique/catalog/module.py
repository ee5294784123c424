"""The catalog's handlers, from memory."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.catalog.contract import Catalog, Product, ProductNotFound
from benchmarks.boutique.catalog.goods import GOODS, picture_of
from benchmarks.boutique.currency.contract import Amount

__all__ = ["CatalogModule"]


def _product(id_: str, name: str, description: str, cents: int, categories: list[str]) -> Product:
    return Product(
        id=id_,
        name=name,
        description=description,
        picture=picture_of(id_),
        price=Amount(currency="USD", units=cents // 100, nanos=cents % 100 * 10_000_000),
        categories=categories,
    )


_PRODUCTS = [_product(*each) for each in GOODS]
_BY_ID = {product.id: product for product in _PRODUCTS}


@final
class CatalogModule(Catalog):
    """Knows its products by heart."""

    async def list_products(self) -> list[Product]:
        """All of them."""
        return _PRODUCTS

    async def get_product(self, product_id: str) -> Product:
        """One of them."""
        product = _BY_ID.get(product_id)
        if product is None:
            raise ProductNotFound(product_id=product_id)
        return product
