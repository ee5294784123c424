"""The storefront's pages on the whole store, as a browser asks for them."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from contextlib import AbstractAsyncContextManager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest

from store.catalog.contract import Catalog, NewProduct, Product
from store.insights.contract import Insights
from store.inventory.contract import Delivery, Inventory, Received
from store.notifications.contract import Notifications
from store.orders.contract import Orders
from store.web.site import build
from tenfold import Money, Struct
from tenfold.runtimes.connect import Connection, connect_product
from tenfold.runtimes.topology import load_product

pytestmark = pytest.mark.anyio
HOME = Path(__file__).parents[3]
GONE = UUID(int=7)


class Answer(Struct):
    """What a page answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def basket(self) -> str | None:
        """What it makes of the basket's cookie; None where it leaves it alone."""
        cookies = SimpleCookie(self.headers.get("set-cookie", ""))
        return cookies["basket"].value if "basket" in cookies else None


class Browser:
    """Asks the storefront's pages in this process, with a basket's cookie if there is one."""

    def __init__(self, store: Connection) -> None:
        self._site = build(
            catalog=store.proxy(Catalog),
            orders=store.proxy(Orders),
            inventory=store.proxy(Inventory),
            notifications=store.proxy(Notifications),
            insights=store.proxy(Insights),
        )

    async def get(self, path: str, basket: str = "") -> Answer:
        return await self._ask("GET", path, [(b"cookie", f"basket={basket}".encode())], b"")

    async def post(self, path: str, form: dict[str, str]) -> Answer:
        kind = (b"content-type", b"application/x-www-form-urlencoded")
        return await self._ask("POST", path, [kind], urlencode(form).encode())

    async def _ask(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> Answer:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"shop"), *headers],
            "server": ("shop", 80),
            "client": ("127.0.0.1", 1),
        }
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self._site(scope, receive, send)
        return Answer(
            status=sent[0]["status"],
            headers={name.decode(): value.decode() for name, value in sent[0]["headers"]},
            text=b"".join(message.get("body", b"") for message in sent[1:]).decode(),
        )


def open_store(data: Path) -> AbstractAsyncContextManager[Connection]:
    product = load_product(HOME, overrides={"data": str(data)})
    return connect_product(product, command="test")


async def with_lamp(store: Connection) -> Product:
    (lamp,) = await store.proxy(Catalog).add_products(
        [NewProduct(sku="LAMP", name="Lamp", price=Money.from_minor(255, "GBP"))]
    )
    received = Received(product_id=lamp.id, quantity=9)
    await store.proxy(Inventory).receive_deliveries([Delivery(delivery_no="1", items=[received])])
    return lamp


def field(html: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', html)
    assert found is not None, html
    return found[1]


async def test_what_the_shop_does_not_know_leaves_the_basket(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        browser = Browser(store)
        lamp = await with_lamp(store)
        shown = await browser.get("/basket", f"{GONE.hex}.3-{lamp.id.hex}.2")
        assert "was taken out of your basket" in shown.text
        assert field(shown.text, "lines") == shown.basket == f"{lamp.id.hex}.2"
        again = await browser.get("/basket", shown.basket)
        assert "was taken out" not in again.text
        assert again.basket is None
        empty = await browser.get("/basket", f"{GONE.hex}.3")
        assert "Nothing in it yet" in empty.text
        assert empty.basket == ""


async def test_an_order_for_what_the_shop_does_not_know_can_be_placed_for_the_rest(
    tmp_path: Path,
) -> None:
    async with open_store(tmp_path) as store:
        browser = Browser(store)
        lamp = await with_lamp(store)
        form = {"lines": f"{GONE.hex}.3-{lamp.id.hex}.2", "key": "k" * 20, "customer_id": "17850"}
        refused = await browser.post("/checkout", form)
        assert refused.status == 422
        form |= {name: field(refused.text, name) for name in ("lines", "key")}
        assert form["lines"] == f"{lamp.id.hex}.2"
        ordered = await browser.post("/checkout", form)
        assert ordered.status == 303, ordered.text


async def test_a_key_that_was_used_for_other_contents_is_told_so(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        browser = Browser(store)
        lamp = await with_lamp(store)
        form = {"lines": f"{lamp.id.hex}.2", "key": "k" * 20, "customer_id": "17850"}
        assert (await browser.post("/checkout", form)).status == 303
        told = await browser.post("/checkout", form | {"lines": f"{lamp.id.hex}.3"})
    assert told.status == 422
    assert "with other contents" in told.text
