"""The frontend's handlers: as the original, each asks one thing after another."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.ads.contract import Ads
from benchmarks.boutique.carts.contract import Carts
from benchmarks.boutique.cartstore.contract import Item
from benchmarks.boutique.catalog.contract import Catalog, Product
from benchmarks.boutique.checkout import rules
from benchmarks.boutique.currency.contract import Amount, Currencies
from benchmarks.boutique.frontend.contract import (
    CartLine,
    CartPage,
    Frontend,
    Home,
    Offer,
    ProductPage,
)
from benchmarks.boutique.recommendations.contract import Recommendations
from benchmarks.boutique.shipping.contract import Address, Shipping

__all__ = ["FrontendModule"]

_SOMEWHERE = Address(street="", city="", state="", country="", zip_code=0)


@final
class FrontendModule(Frontend):
    """Puts pages together."""

    catalog: Catalog
    currency: Currencies
    carts: Carts
    recommendations: Recommendations
    shipping: Shipping
    ads: Ads

    async def home(self, user_id: str, currency: str) -> Home:
        """The front page."""
        currencies = await self.currency.supported()
        products = await self.catalog.list_products()
        items = await self.carts.get_cart(user_id)
        offers = []
        for product in products:
            price = await self.currency.convert(product.price, currency)
            offers.append(Offer(product=product, price=price))
        ads = await self.ads.choose([])
        return Home(currencies=currencies, offers=offers, pieces=_pieces(items), ads=ads)

    async def product_page(self, product_id: str, user_id: str, currency: str) -> ProductPage:
        """The page of a product."""
        product = await self.catalog.get_product(product_id)
        currencies = await self.currency.supported()
        items = await self.carts.get_cart(user_id)
        price = await self.currency.convert(product.price, currency)
        return ProductPage(
            currencies=currencies,
            offer=Offer(product=product, price=price),
            pieces=_pieces(items),
            recommended=await self._recommended(user_id, [product_id]),
            ads=await self.ads.choose(product.categories),
        )

    async def cart_page(self, user_id: str, currency: str) -> CartPage:
        """The page of a cart."""
        currencies = await self.currency.supported()
        items = await self.carts.get_cart(user_id)
        recommended = await self._recommended(user_id, [item.product_id for item in items])
        quote = await self.shipping.quote(_SOMEWHERE, items)
        shipping = await self.currency.convert(quote, currency)
        lines = []
        for item in items:
            product = await self.catalog.get_product(item.product_id)
            price = await self.currency.convert(product.price, currency)
            cost = _sum(currency, [(price.units, price.nanos, item.quantity)])
            lines.append(CartLine(product=product, quantity=item.quantity, cost=cost))
        costs = [(line.cost.units, line.cost.nanos, 1) for line in lines]
        return CartPage(
            currencies=currencies,
            lines=lines,
            shipping=shipping,
            total=_sum(currency, [(shipping.units, shipping.nanos, 1), *costs]),
            recommended=recommended,
        )

    async def _recommended(self, user_id: str, product_ids: list[str]) -> list[Product]:
        found = await self.recommendations.recommend(user_id, product_ids)
        return [await self.catalog.get_product(each) for each in found]


def _pieces(items: list[Item]) -> int:
    return sum(item.quantity for item in items)


def _sum(currency: str, parts: list[tuple[int, int, int]]) -> Amount:
    units, nanos = rules.add_up(parts)
    return Amount(currency=currency, units=units, nanos=nanos)
