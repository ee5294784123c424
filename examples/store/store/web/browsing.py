"""The pages on which visitors look around: the shop and a product."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response

from store.catalog.contract import Product
from store.web.basket import LARGEST_QUANTITY
from store.web.shop import Shop, basket_of, page
from tenfold import Struct

__all__ = ["Availability", "availability", "home", "product", "stock_of"]

PRODUCTS_ON_A_PAGE = 24
BEST_SELLERS = 6
FEW = 5


class Availability(Struct):
    """Whether a product can be bought. `state` is `in`, `few` or `out`; `text` says it."""

    state: str
    text: str
    free: int


def availability(free: int) -> Availability:
    """What a visitor is told where so many pieces are free."""
    if free <= 0:
        return Availability(state="out", text="Sold out", free=0)
    if free <= FEW:
        return Availability(state="few", text=f"Only {free} left", free=free)
    return Availability(state="in", text="In stock", free=free)


async def stock_of(shop: Shop, product_ids: Iterable[UUID]) -> dict[UUID, Availability]:
    """What can be bought of each of these products."""
    wanted = list(product_ids)
    levels = {level.product_id: level for level in await shop.inventory.get_stocks(wanted)}
    found: dict[UUID, Availability] = {}
    for product_id in wanted:
        level = levels.get(product_id)
        found[product_id] = availability(level.free if level else 0)
    return found


async def home(shop: Shop, request: Request) -> Response:
    """All products, or those that a search finds; on the first page what sells best."""
    search = request.query_params.get("search", "").strip()[:200]
    cursor = request.query_params.get("cursor") or None
    found = await shop.catalog.list_products(search, PRODUCTS_ON_A_PAGE, cursor)
    first_page = not search and cursor is None
    best = (await shop.insights.best_sellers(BEST_SELLERS)).items if first_page else []
    return page(
        request,
        "home.html",
        title=f"Search: {search}" if search else "Shop",
        search=search,
        products=found.items,
        next=found.next,
        first_page=first_page,
        later_page=cursor is not None,
        best=best,
        stock=await stock_of(shop, [item.id for item in found.items]),
    )


async def product(shop: Shop, request: Request) -> Response:
    """One product, with the form to buy it."""
    found: Product = await shop.catalog.get_product(request.path_params["product_id"])
    stock = await shop.inventory.get_stock(found.id)
    state = availability(stock.free)
    return page(
        request,
        "product.html",
        title=found.name,
        product=found,
        stock=state,
        most=min(LARGEST_QUANTITY, state.free),
        in_basket=basket_of(request).quantity(found.id),
    )
