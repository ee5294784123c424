"""The pages on which customers follow what they bought: an order, all orders, mails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from store.notifications.contract import Mail
from store.orders.contract import CustomerId, Order, OrderStatus
from store.web.shop import Shop, fragment, page, read_as
from tenfold import Page

__all__ = ["live", "mail", "order", "orders"]

LOOK_EVERY_S = 0.25
LONGEST_STREAM_S = 60.0
MOST_STREAMS = 200
RETRY_MS = 5_000
_CUSTOMER = "Please give a customer number: 1 to 64 letters and digits, such as 17850."


async def order(shop: Shop, request: Request) -> Response:
    """One order and where it stands. While it is open, the page keeps itself up to date."""
    found = await shop.orders.get_order(request.path_params["order_id"])
    return page(
        request,
        "order.html",
        title="Your order",
        order=found,
        number=short_number(found.id),
        settled=found.status is not OrderStatus.PLACED,
    )


async def live(shop: Shop, request: Request) -> Response:
    """The state of an order as a stream of server-sent events (WHATWG HTML 9.2).

    It ends when the order is settled, after a minute, when the store stops, or
    at once where many others are followed: the browser then connects again by
    itself.
    """
    order_id: UUID = request.path_params["order_id"]
    found = await shop.orders.get_order(order_id)
    return StreamingResponse(
        _states(shop, request, found),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _states(shop: Shop, request: Request, found: Order) -> AsyncIterator[str]:
    counts = request.app.state
    counts.streams = getattr(counts, "streams", 0) + 1
    looks = int(LONGEST_STREAM_S / LOOK_EVERY_S)
    try:
        if counts.streams > MOST_STREAMS:
            looks = 1
            yield f"retry: {RETRY_MS}\n\n"
        async for event in _changes(shop, request, found, looks):
            yield event
    finally:
        counts.streams -= 1


async def _changes(shop: Shop, request: Request, found: Order, looks: int) -> AsyncIterator[str]:
    is_stopping = request.scope.get("state", {}).get("tenfold.draining", lambda: False)
    shown: OrderStatus | None = None
    for _ in range(looks):
        if found.status is not shown:
            shown = found.status
            html = fragment(request, "_state.html", order=found)
            data = "".join(f"data: {line}\n" for line in html.splitlines())
            yield f"event: state\n{data}\n"
        if found.status is not OrderStatus.PLACED:
            yield "event: settled\ndata: .\n\n"
            return
        await asyncio.sleep(LOOK_EVERY_S)
        if is_stopping():
            return
        found = await shop.orders.get_order(found.id)


async def orders(shop: Shop, request: Request) -> Response:
    """A customer's orders, newest first."""
    asked = request.query_params.get("customer_id", "").strip()
    found: Page[Order] = Page(items=[])
    if asked:
        customer_id = read_as(asked, CustomerId, _CUSTOMER)
        cursor = request.query_params.get("cursor") or None
        found = await shop.orders.list_customer_orders(customer_id, 20, cursor)
    return page(
        request,
        "orders.html",
        title="Orders",
        asked=asked,
        orders=[(item, short_number(item.id)) for item in found.items],
        next=found.next,
        later_page="cursor" in request.query_params,
    )


async def mail(shop: Shop, request: Request) -> Response:
    """The mails that the shop has sent, to one customer or to all."""
    asked = request.query_params.get("customer_id", "").strip()
    customer_id = read_as(asked, CustomerId, _CUSTOMER) if asked else None
    cursor = request.query_params.get("cursor") or None
    found: Page[Mail] = await shop.notifications.list_mail(customer_id, 20, cursor)
    return page(
        request,
        "mail.html",
        title="Mailbox",
        asked=asked,
        mails=found.items,
        next=found.next,
        later_page=cursor is not None,
    )


def short_number(order_id: UUID) -> str:
    """An order's number as mails and pages show it: its last twelve digits."""
    return order_id.hex[-12:]
