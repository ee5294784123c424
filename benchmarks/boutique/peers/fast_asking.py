"""The FastAPI services that ask others: each application is a process of its own.

As on the other sides they ask one thing after another, as the original does.
"""

import os
from typing import Annotated
from uuid import uuid4

from fastapi import HTTPException, Query, Response

from benchmarks.boutique.checkout import rules
from benchmarks.boutique.peers.calling import Calls, service
from benchmarks.boutique.peers.models import (
    Address,
    Ads,
    Amount,
    CartLine,
    CartPage,
    Charge,
    Code,
    Confirmation,
    Conversion,
    Home,
    Item,
    Items,
    NewItem,
    NewOrder,
    Offer,
    Order,
    OrderLine,
    Parcel,
    Product,
    ProductId,
    ProductPage,
    Products,
    Taste,
    Text,
    Texts,
    UserId,
)
from benchmarks.boutique.peers.sql import Tables
from benchmarks.boutique.recommendations import rules as recommendation_rules

__all__ = ["carts", "checkout", "frontend", "recommendations"]

STORED = bool(os.environ.get("BENCH_URL"))
SOMEWHERE = Address(street="", city="", state="", country="", zip_code=0)
calls = Calls()
tables = Tables()
frontend, carts, recommendations = (service(calls.open) for _ in range(3))
checkout = service(calls.open, *([tables.open] if STORED else []))
Currency = Annotated[Code, Query()]
Customer = Annotated[UserId, Query()]


async def _product(product_id: str) -> Product:
    return await calls.get_one("catalog", f"/products/{product_id}", Product)


async def _converted(amount: Amount, to: str) -> Amount:
    asked = Conversion(amount=amount, to=to)
    return await calls.post_for_one("currency", "/conversions", asked, Amount)


async def _cart(user_id: str) -> list[Item]:
    return await calls.get("carts", f"/carts/{user_id}", Items)


async def _currencies() -> list[str]:
    return await calls.get("currency", "/currencies", Texts)


async def _ads(categories: list[str]) -> list:  # type: ignore[type-arg]
    return await calls.get("ads", "/ads?" + "&".join(f"category={c}" for c in categories), Ads)


async def _recommended(user_id: str, product_ids: list[str]) -> list[Product]:
    taste = Taste(user_id=user_id, product_ids=product_ids)
    found = await calls.post("recommendations", "/recommendations", taste, Texts)
    return [await _product(each) for each in found]


def _sum(currency: str, parts: list[tuple[int, int, int]]) -> Amount:
    units, nanos = rules.add_up(parts)
    return Amount(currency=currency, units=units, nanos=nanos)


@carts.get("/carts/{user_id}")
async def get_cart(user_id: UserId) -> list[Item]:
    """What is in a cart."""
    return await calls.get("cartstore", f"/carts/{user_id}", Items)


@carts.post("/carts/{user_id}/items")
async def put_into_cart(user_id: UserId, item: NewItem) -> Item:
    """Put more of a product in."""
    product = await _product(item.product_id)
    await calls.send("POST", "cartstore", f"/carts/{user_id}/items", item)
    return Item(product_id=product.id, quantity=item.quantity)


@carts.delete("/carts/{user_id}", status_code=204)
async def empty_cart(user_id: UserId) -> Response:
    """Take everything out."""
    await calls.send("DELETE", "cartstore", f"/carts/{user_id}")
    return Response(status_code=204)


@recommendations.post("/recommendations")
async def recommend(taste: Taste) -> list[str]:
    """Other products than these."""
    products = await calls.get("catalog", "/products", Products)
    all_ids = [product.id for product in products]
    return recommendation_rules.recommend(taste.user_id, taste.product_ids, all_ids)


@checkout.post("/orders")
async def place_order(new: NewOrder) -> Order:
    """Buy what is in a cart."""
    items = await _cart(new.user_id)
    if not items:
        raise HTTPException(409, "There is nothing to buy.")
    lines = []
    for item in items:
        product = await _product(item.product_id)
        cost = await _converted(product.price, new.currency)
        lines.append(OrderLine(product_id=item.product_id, quantity=item.quantity, cost=cost))
    parcel = Parcel(address=new.address, items=items)
    quote = await calls.post_for_one("shipping", "/quotes", parcel, Amount)
    shipping = await _converted(quote, new.currency)
    costs = [(line.cost.units, line.cost.nanos, line.quantity) for line in lines]
    total = _sum(new.currency, [(shipping.units, shipping.nanos, 1), *costs])
    charge = Charge(amount=total, card=new.card)
    order = Order(
        id=uuid4(),
        transaction=await calls.post("payments", "/charges", charge, Text),
        tracking=await calls.post("shipping", "/parcels", parcel, Text),
        shipping=shipping,
        address=new.address,
        lines=lines,
        total=total,
    )
    await calls.send("DELETE", "carts", f"/carts/{new.user_id}")
    await calls.post("email", "/confirmations", Confirmation(to=new.email, order=order), Text)
    if STORED:
        plain = [line.model_dump() for line in lines]
        await tables.add_order(new.user_id, new.email, order, plain)
    return order


@frontend.get("/v1/home")
async def home(user_id: Customer, currency: Currency) -> Home:
    """The front page."""
    currencies = await _currencies()
    products = await calls.get("catalog", "/products", Products)
    items = await _cart(user_id)
    offers = []
    for product in products:
        price = await _converted(product.price, currency)
        offers.append(Offer(product=product, price=price))
    pieces = sum(item.quantity for item in items)
    return Home(currencies=currencies, offers=offers, pieces=pieces, ads=await _ads([]))


@frontend.get("/v1/products/{product_id}")
async def product_page(product_id: ProductId, user_id: Customer, currency: Currency) -> ProductPage:
    """The page of a product."""
    product = await _product(product_id)
    currencies = await _currencies()
    items = await _cart(user_id)
    price = await _converted(product.price, currency)
    return ProductPage(
        currencies=currencies,
        offer=Offer(product=product, price=price),
        pieces=sum(item.quantity for item in items),
        recommended=await _recommended(user_id, [product_id]),
        ads=await _ads(product.categories),
    )


@frontend.get("/v1/carts/{user_id}")
async def cart_page(user_id: UserId, currency: Currency) -> CartPage:
    """The page of a cart."""
    currencies = await _currencies()
    items = await _cart(user_id)
    recommended = await _recommended(user_id, [item.product_id for item in items])
    parcel = Parcel(address=SOMEWHERE, items=items)
    quote = await calls.post_for_one("shipping", "/quotes", parcel, Amount)
    shipping = await _converted(quote, currency)
    lines = []
    for item in items:
        product = await _product(item.product_id)
        price = await _converted(product.price, currency)
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


@frontend.post("/v1/carts/{user_id}/items")
async def add_item(user_id: UserId, item: NewItem) -> Item:
    """Hand on what is put into a cart."""
    return Item.model_validate_json(
        await calls.send("POST", "carts", f"/carts/{user_id}/items", item)
    )


@frontend.post("/v1/orders")
async def buy(new: NewOrder) -> Order:
    """Hand on an order."""
    return await calls.post_for_one("checkout", "/orders", new, Order)
