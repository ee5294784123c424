"""The FastAPI services that ask no other: each application is a process of its own.

With BENCH_URL in the environment catalogue and carts are in PostgreSQL, else in memory.
"""

import os
from typing import Annotated

from fastapi import HTTPException, Query, Response

from benchmarks.boutique.ads import rules as ads_rules
from benchmarks.boutique.cartstore.shelf import Shelf
from benchmarks.boutique.catalog.goods import GOODS, picture_of
from benchmarks.boutique.currency import rules as currency_rules
from benchmarks.boutique.emails import rules as email_rules
from benchmarks.boutique.payments import rules as payment_rules
from benchmarks.boutique.peers.calling import service
from benchmarks.boutique.peers.models import (
    Ad,
    Amount,
    Charge,
    Confirmation,
    Conversion,
    Item,
    NewItem,
    Parcel,
    Product,
    ProductId,
    UserId,
)
from benchmarks.boutique.peers.sql import Tables
from benchmarks.boutique.shipping import rules as shipping_rules

__all__ = ["ads", "cartstore", "catalog", "currency", "email", "payments", "shipping"]

STORED = bool(os.environ.get("BENCH_URL"))
tables = Tables()
shelf = Shelf()
kept = [tables.open] if STORED else []
catalog = service(*kept)
cartstore = service(*kept)
currency, shipping, payments, email, ads = (service() for _ in range(5))


def _dollars(cents: int) -> Amount:
    return Amount(currency="USD", units=cents // 100, nanos=cents % 100 * 10_000_000)


PRODUCTS = [
    Product(
        id=id_,
        name=name,
        description=description,
        picture=picture_of(id_),
        price=_dollars(cents),
        categories=categories,
    )
    for id_, name, description, cents, categories in GOODS
]
BY_ID = {product.id: product for product in PRODUCTS}


def _product(row) -> Product:  # type: ignore[no-untyped-def]
    price = Amount(currency=row["currency"], units=row["units"], nanos=row["nanos"])
    return Product(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        picture=row["picture"],
        price=price,
        categories=row["categories"],
    )


@catalog.get("/products")
async def list_products() -> list[Product]:
    """All of them."""
    return [_product(row) for row in await tables.products()] if STORED else PRODUCTS


@catalog.get("/products/{product_id}")
async def get_product(product_id: ProductId) -> Product:
    """One of them."""
    if STORED:
        row = await tables.product(product_id)
        product = None if row is None else _product(row)
    else:
        product = BY_ID.get(product_id)
    if product is None:
        raise HTTPException(404, "No product has this id.")
    return product


@cartstore.get("/carts/{user_id}")
async def read_cart(user_id: UserId) -> list[Item]:
    """What is in a cart."""
    rows = await tables.read(user_id) if STORED else shelf.read(user_id)
    return [Item(product_id=product_id, quantity=quantity) for product_id, quantity in rows]


@cartstore.post("/carts/{user_id}/items", status_code=204)
async def add_to_cart(user_id: UserId, item: NewItem) -> Response:
    """Put more in."""
    if STORED:
        await tables.add(user_id, item.product_id, item.quantity)
    else:
        shelf.add(user_id, item.product_id, item.quantity)
    return Response(status_code=204)


@cartstore.delete("/carts/{user_id}", status_code=204)
async def clear_cart(user_id: UserId) -> Response:
    """Take everything out."""
    if STORED:
        await tables.clear(user_id)
    else:
        shelf.clear(user_id)
    return Response(status_code=204)


@currency.get("/currencies")
async def supported() -> list[str]:
    """All that have a rate."""
    return currency_rules.CODES


@currency.post("/conversions")
async def convert(asked: Conversion) -> Amount:
    """What an amount is worth."""
    amount = asked.amount
    try:
        units, nanos = currency_rules.convert(amount.currency, amount.units, amount.nanos, asked.to)
    except KeyError as error:
        raise HTTPException(422, f"There is no rate for {error}.") from error
    return Amount(currency=asked.to, units=units, nanos=nanos)


@shipping.post("/quotes")
async def quote(parcel: Parcel) -> Amount:
    """What it costs."""
    return _dollars(shipping_rules.cost_cents(sum(item.quantity for item in parcel.items)))


@shipping.post("/parcels")
async def ship(parcel: Parcel) -> str:
    """The parcel's number."""
    to = parcel.address
    pieces = sum(item.quantity for item in parcel.items)
    return shipping_rules.tracking(to.street, to.city, to.state, pieces)


@payments.post("/charges")
async def charge(asked: Charge) -> str:
    """The number of the transaction."""
    amount, card = asked.amount, asked.card
    reason = payment_rules.reason_against(card.number, card.year, card.month)
    if reason is not None:
        raise HTTPException(422, reason)
    return payment_rules.transaction(card.number, amount.currency, amount.units, amount.nanos)


@email.post("/confirmations")
async def confirm(asked: Confirmation) -> str:
    """The text that confirms an order."""
    order = asked.order
    lines = [(line.product_id, line.quantity, _shown(line.cost)) for line in order.lines]
    return email_rules.confirmation(asked.to, order.tracking, _shown(order.total), lines)


def _shown(amount: Amount) -> str:
    return f"{amount.units}.{amount.nanos // 10_000_000:02} {amount.currency}"


@ads.get("/ads")
async def choose(category: Annotated[list[str], Query(default_factory=list)]) -> list[Ad]:
    """Those that fit."""
    return [Ad(text=text, product_id=id_) for text, id_ in ads_rules.choose(category)]
