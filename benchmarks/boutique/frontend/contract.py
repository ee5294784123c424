"""The shop's pages, as data."""

from __future__ import annotations

from typing import Protocol

from benchmarks.boutique.ads.contract import Ad
from benchmarks.boutique.cartstore.contract import UserId
from benchmarks.boutique.catalog.contract import Product, ProductId, ProductNotFound
from benchmarks.boutique.currency.contract import Amount, Code, UnknownCurrency
from tenfold import Contract, Struct, query

__all__ = ["CartLine", "CartPage", "Frontend", "Home", "Offer", "ProductPage"]


class Offer(Struct):
    """A product at its price in the customer's currency."""

    product: Product
    price: Amount


class Home(Struct):
    """The front page."""

    currencies: list[str]
    offers: list[Offer]
    pieces: int
    ads: list[Ad]


class ProductPage(Struct):
    """The page of a product."""

    currencies: list[str]
    offer: Offer
    pieces: int
    recommended: list[Product]
    ads: list[Ad]


class CartLine(Struct):
    """A product in a cart, and what all its pieces cost."""

    product: Product
    quantity: int
    cost: Amount


class CartPage(Struct):
    """The page of a cart."""

    currencies: list[str]
    lines: list[CartLine]
    shipping: Amount
    total: Amount
    recommended: list[Product]


class Frontend(Contract, Protocol):
    """Puts pages together from what the others know."""

    @query("GET /v1/home", who="anyone", raises=[UnknownCurrency])
    async def home(self, user_id: UserId, currency: Code) -> Home:
        """The front page."""
        ...

    @query("GET /v1/products/{product_id}", who="anyone", raises=[ProductNotFound, UnknownCurrency])
    async def product_page(
        self, product_id: ProductId, user_id: UserId, currency: Code
    ) -> ProductPage:
        """The page of a product."""
        ...

    @query("GET /v1/carts/{user_id}", who="anyone", raises=[ProductNotFound, UnknownCurrency])
    async def cart_page(self, user_id: UserId, currency: Code) -> CartPage:
        """The page of a cart."""
        ...
