"""A customer of the store: speaks to it over HTTP and knows nothing else of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener
from uuid import uuid4

T = TypeVar("T")
_opener = build_opener(ProxyHandler({}))
_PATIENCE_S = 20.0


class Answer:
    """A status, headers by lower-case name, and the body: `body` as JSON, `text` otherwise."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.text = body.decode(errors="replace")
        is_json = "json" in self.headers.get("content-type", "")
        self.body: Any = json.loads(body) if body and is_json else None

    @property
    def turned_away(self) -> bool:
        """Whether nothing was done and it may be sent again."""
        again = self.status == 503 and "retry-after" in self.headers
        return again and self.body["outcome"] == "not_done"

    def __repr__(self) -> str:
        return f"{self.status} {self.body}"


class Shop:
    """The store at a base URL."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def get(self, path: str, **query: Any) -> Answer:
        asked = {name.rstrip("_"): value for name, value in query.items() if value is not None}
        return self.send("GET", path + ("?" + urlencode(asked) if asked else ""))

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["Content-Type"] = "application/json"
        return self.send("POST", path, json.dumps(body).encode(), named)

    def product(self, price: str = "2.55", stock: int = 0, currency: str = "GBP") -> dict[str, Any]:
        """A new product of its own for one test, with so much stock."""
        made = self.post(
            "/v1/products",
            {
                "sku": f"T-{uuid4().hex[:20]}",
                "name": f"Test {uuid4().hex}",
                "price": {"amount": price, "currency": currency},
            },
        )
        assert made.status == 201, made
        if stock:
            assert (
                self.post(f"/v1/products/{made.body['id']}/stock", {"quantity": stock}).status
                == 200
            )
        product: dict[str, Any] = made.body
        return product

    def order(self, customer_id: str, *lines: tuple[dict[str, Any], int], **headers: str) -> Answer:
        return self.post(
            "/v1/orders",
            {
                "customer_id": customer_id,
                "lines": [{"product_id": p["id"], "quantity": n} for p, n in lines],
            },
            **headers,
        )

    def settled_order(self, customer_id: str, *lines: tuple[dict[str, Any], int]) -> dict[str, Any]:
        """Place an order and see how it ends."""
        placed = self.order(customer_id, *lines)
        assert placed.status == 201, placed

        def ended() -> dict[str, Any] | None:
            seen = self.get(f"/v1/orders/{placed.body['id']}")
            assert seen.status == 200, seen  # a problem has a status of its own
            found: dict[str, Any] = seen.body
            return found if found["status"] != "placed" else None

        return eventually(ended)

    def stock(self, product: dict[str, Any]) -> dict[str, int]:
        found: dict[str, int] = self.get(f"/v1/products/{product['id']}/stock").body
        return found

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request as it is; again a little later where the store has too much to do."""
        request = Request(
            self.base_url + path, data=body, method=method, headers=dict(headers or {})
        )
        until = time.monotonic() + _PATIENCE_S
        while True:
            answer = self._send(request)
            if not answer.turned_away or time.monotonic() > until:
                return answer
            time.sleep(float(answer.headers["retry-after"]))

    def _send(self, request: Request) -> Answer:
        try:
            with _opener.open(request, timeout=30) as reply:
                return Answer(reply.status, dict(reply.headers), reply.read())
        except HTTPError as refused:
            with refused:
                return Answer(refused.code, dict(refused.headers), refused.read())


def eventually(look: Callable[[], T | None], within_s: float = 20.0) -> T:
    """The first answer that is not None: for what can be seen from outside only by looking."""
    until = time.monotonic() + within_s
    while True:
        found = look()
        if found is not None:
            return found
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)
