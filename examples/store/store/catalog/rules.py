"""What the catalog decides: names, prices, and which products of a list are new."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

from store.catalog.contract import MAX_PRICE_MINOR, NewProduct, PriceNotAllowed, Product
from tenfold import Money

__all__ = ["decide_missing", "decide_product"]


def decide_product(new: NewProduct, product_id: UUID, at: datetime) -> Product:
    """The product to add: its name trimmed, its price above zero and within what is sold.

    Raises: PriceNotAllowed.
    """
    highest = Money.from_minor(MAX_PRICE_MINOR, new.price.currency)
    if not Money.zero(new.price.currency) < new.price <= highest:
        raise PriceNotAllowed(price=new.price, highest=highest)
    return Product(
        id=product_id, sku=new.sku, name=new.name.strip(), price=new.price, created_at=at
    )


def decide_missing(
    wanted: Sequence[NewProduct],
    there: Iterable[Product],
    new_id: Callable[[], UUID],
    at: datetime,
) -> tuple[list[Product], list[Product]]:
    """Which of the wanted products to add, and all of them as they stand afterwards.

    Of several with one SKU the first counts, and products that are there win.

    Returns: the products to add; one product for each SKU, in the order of first mention.
    Raises: PriceNotAllowed.
    """
    by_sku = {product.sku: product for product in there}
    added: list[Product] = []
    for new in wanted:
        if new.sku not in by_sku:
            product = decide_product(new, new_id(), at)
            by_sku[new.sku] = product
            added.append(product)
    return added, [by_sku[sku] for sku in dict.fromkeys(new.sku for new in wanted)]
