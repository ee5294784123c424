"""The storefront: pages to browse, search, buy and follow an order; an ASGI application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from store.catalog.contract import Catalog
from store.insights.contract import Insights
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import Orders

__all__ = ["ASGIApp", "build"]

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[_Scope, _Receive, _Send], Awaitable[None]]
"""An application by the ASGI standard (https://asgi.readthedocs.io)."""


def build(
    catalog: Catalog,
    orders: Orders,
    inventory: Inventory,
    notifications: Notifications,
    insights: Insights,
) -> ASGIApp:
    """Make the storefront on these contracts.

    The web framework and the templates are loaded with the first page that is
    asked for: a store that only answers its API, or that idles, does not pay
    for them.
    """
    made: ASGIApp | None = None

    async def site(scope: _Scope, receive: _Receive, send: _Send) -> None:
        nonlocal made
        if scope["type"] == "lifespan":
            # There is nothing to start, and asking Starlette would load it.
            await _live(receive, send)
            return
        if made is None:
            from store.web.pages import make_pages
            from store.web.shop import Shop

            made = make_pages(
                Shop(
                    catalog=catalog,
                    orders=orders,
                    inventory=inventory,
                    notifications=notifications,
                    insights=insights,
                )
            )
        await made(scope, receive, send)

    return site


async def _live(receive: _Receive, send: _Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
