"""The basket and the checkout. Every post answers with a page to get, so reloads are harmless."""

from __future__ import annotations

import secrets
from typing import Annotated
from uuid import UUID

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from store.catalog.contract import Product
from store.orders.contract import CustomerId, Line
from store.web.basket import LARGEST_QUANTITY, LONGEST_BASKET, Basket
from store.web.browsing import Availability, stock_of
from store.web.shop import (
    NotUnderstoodError,
    Shop,
    basket_of,
    customer_of,
    go_to,
    keep,
    page,
    read_as,
    read_form,
)
from tenfold import Money, Refusal, Struct, keyed

__all__ = ["add_to_basket", "basket", "change_basket", "check_out"]

_Amount = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_QUANTITY)]
_AmountOrNone = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_QUANTITY)]
_Key = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{16,64}$")]
_GONE = "What the shop does not sell any more was taken out of your basket."
_AMOUNT = f"Please give a quantity from 1 to {LARGEST_QUANTITY}, in whole pieces."


class _Row(Struct):
    """A line of the basket as it is shown."""

    product: Product
    quantity: int
    sum: Money
    stock: Availability
    short: bool


async def basket(shop: Shop, request: Request) -> Response:
    """What is in the basket, and the form to order it."""
    return await _show(shop, request, basket_of(request))


async def add_to_basket(shop: Shop, request: Request) -> Response:
    """Put pieces of a product into the basket, or into the basket and go there to buy."""
    form = await read_form(request)
    product_id = read_as(form.get("product_id", ""), UUID, "Please choose a product first.")
    quantity = read_as(form.get("quantity", "1"), _Amount, _AMOUNT)
    product = await shop.catalog.get_product(product_id)
    before = basket_of(request)
    if not before.has_room_for(product.id):
        raise NotUnderstoodError(
            f"The basket holds {LONGEST_BASKET} different products, and is full. "
            "Please order these first.",
            status=409,
        )
    after = before.with_quantity(product.id, before.quantity(product.id) + quantity)
    return keep(request, go_to(request, "/basket"), "basket", after.cookie())


async def change_basket(shop: Shop, request: Request) -> Response:
    """Change quantities; `remove` takes a product out, whatever its quantity says."""
    form = await read_form(request)
    changed = basket_of(request)
    for line in changed.lines:
        wanted = form.get(f"quantity-{line.product_id}")
        if form.get("remove") == str(line.product_id):
            changed = changed.with_quantity(line.product_id, 0)
        elif wanted is not None and "remove" not in form:
            amount = read_as(wanted, _AmountOrNone, _AMOUNT)
            changed = changed.with_quantity(line.product_id, amount)
    return keep(request, go_to(request, "/basket"), "basket", changed.cookie())


async def check_out(shop: Shop, request: Request) -> Response:
    """Order what the form says. The form's key makes a second click the same order."""
    form = await read_form(request)
    ordered = Basket.read(form.get("lines", ""))
    key = read_as(form.get("key", ""), _Key, "This form is not complete. Please reload the basket.")
    given = form.get("customer_id", "").strip()
    try:
        customer_id: str = msgspec.convert(given, CustomerId)
    except msgspec.ValidationError:
        problem = (
            "Please give your customer number: 1 to 64 letters and digits, such as 17850."
            if given
            else "Please give your customer number."
        )
        return await _show(
            shop, request, ordered, status=422, key=key, given=given, problem=problem
        )
    if not ordered.lines:
        return go_to(request, "/basket")
    lines = [Line(product_id=x.product_id, quantity=x.quantity) for x in ordered.lines]
    try:
        order = await keyed(shop.orders, key).place_order(customer_id, lines)
    except Refusal as refusal:
        return await _show(
            shop,
            request,
            ordered,
            status=refusal.status,
            key=key,
            given=given,
            problem=refusal.sentence(),
        )
    left = basket_of(request)
    for line in ordered.lines:
        left = left.with_quantity(line.product_id, left.quantity(line.product_id) - line.quantity)
    response = keep(request, go_to(request, f"/orders/{order.id}"), "basket", left.cookie())
    return keep(request, response, "customer", customer_id)


async def _show(
    shop: Shop,
    request: Request,
    shown: Basket,
    *,
    status: int = 200,
    key: str | None = None,
    given: str | None = None,
    problem: str = "",
) -> Response:
    # The cookie may tell of products that are sold no more, or that another store sold here.
    kept = basket_of(request)
    asked = list(dict.fromkeys(line.product_id for line in (*shown.lines, *kept.lines)))
    products = {p.id: p for p in await shop.catalog.get_products(asked)} if asked else {}
    left, known = kept.only(products), shown.only(products)
    if known != shown:
        problem = problem or _GONE
        key = None  # another order than the one that this key was for
    ids = [line.product_id for line in known.lines]
    stock = await stock_of(shop, ids) if ids else {}
    rows = [
        _Row(
            product=product,
            quantity=line.quantity,
            sum=product.price * line.quantity,
            stock=stock[product.id],
            short=line.quantity > stock[product.id].free,
        )
        for line in known.lines
        for product in [products[line.product_id]]
    ]
    totals: dict[str, Money] = {}
    for row in rows:
        currency = row.sum.currency
        totals[currency] = totals.get(currency, Money.zero(currency)) + row.sum
    response = page(
        request,
        "basket.html",
        status=status,
        title="Basket",
        basket=left,
        rows=rows,
        totals=list(totals.values()),
        lines=known.cookie(),
        key=key or secrets.token_urlsafe(18),
        given=customer_of(request) if given is None else given,
        problem=problem,
        most=LARGEST_QUANTITY,
    )
    return response if left == kept else keep(request, response, "basket", left.cookie())
