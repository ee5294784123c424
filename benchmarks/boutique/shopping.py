"""What customers do, as requests: the mix of Online Boutique's load, and one session to compare."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from benchmarks.boutique.catalog.goods import GOODS
from benchmarks.processes import request

__all__ = ["DECK", "REQUESTS_OF_A_DECK", "Session", "shoppers"]

DECK = {"home": 1, "set_currency": 2, "browse": 10, "add": 2, "view": 3, "checkout": 1}
"""How often a customer does what, in nineteen steps."""
REQUESTS_OF_A_DECK = 23
"""To add means to look first, and to check out means to add first."""
_CURRENCIES = ("EUR", "USD", "JPY", "CAD")
_PIECES = (1, 2, 3, 4, 5, 10)
_CARD = {"number": "4432-8015-6152-0454", "cvv": 672, "year": 2039, "month": 1}
_ADDRESS = {
    "street": "1600 Amphitheatre Parkway",
    "city": "Mountain View",
    "state": "CA",
    "country": "United States",
    "zip_code": 94043,
}


class Session:
    """One customer's requests to the shop at a port; what chance decides comes from `chance`."""

    def __init__(self, port: int, user_id: str, chance: random.Random) -> None:
        self._port = port
        self._user_id = user_id
        self._chance = chance
        self._currency = "USD"

    def home(self) -> bytes:
        """The front page."""
        return self._get(f"/v1/home?user_id={self._user_id}&currency={self._currency}")

    def set_currency(self) -> bytes:
        """The front page in another currency, to which the original leads."""
        self._currency = self._chance.choice(_CURRENCIES)
        return self.home()

    def browse(self, product_id: str | None = None) -> bytes:
        """The page of a product."""
        page = product_id or self._product()
        return self._get(f"/v1/products/{page}?user_id={self._user_id}&currency={self._currency}")

    def add(self, product_id: str | None = None, quantity: int | None = None) -> bytes:
        """Put some of a product into the cart."""
        body = {
            "product_id": product_id or self._product(),
            "quantity": quantity or self._chance.choice(_PIECES),
        }
        return self._post(f"/v1/carts/{self._user_id}/items", body)

    def view(self) -> bytes:
        """The page of the cart."""
        return self._get(f"/v1/carts/{self._user_id}?currency={self._currency}")

    def buy(self, **changes: Any) -> bytes:
        """Buy what is in the cart; `changes` are to the card."""
        body = {
            "user_id": self._user_id,
            "currency": self._currency,
            "address": _ADDRESS,
            "email": f"{self._user_id}@example.org",
            "card": {**_CARD, **changes},
        }
        return self._post("/v1/orders", body)

    def play(self) -> Iterator[bytes]:
        """A deck of steps, shuffled."""
        steps = [step for step, times in DECK.items() for _ in range(times)]
        self._chance.shuffle(steps)
        for step in steps:
            if step in ("add", "checkout"):
                yield self.browse()
                yield self.add()
                if step == "checkout":
                    yield self.buy()
            else:
                yield getattr(self, step)()

    def _product(self) -> str:
        return self._chance.choice(GOODS)[0]

    def _get(self, path: str) -> bytes:
        return request("GET", path, self._port)

    def _post(self, path: str, body: Any) -> bytes:
        key = str(UUID(int=self._chance.getrandbits(128)))
        return request("POST", path, self._port, json.dumps(body).encode(), key)


def shoppers(port: int, connections: int, count: int, seed: int) -> list[list[bytes]]:
    """For each connection what new customers send, one after another; about `count` in all."""
    chance = random.Random(seed)
    each = max(1, round(count / connections / REQUESTS_OF_A_DECK))
    return [
        [
            message
            for number in range(each)
            for message in Session(port, f"u{seed:x}-{connection}-{number}", chance).play()
        ]
        for connection in range(connections)
    ]
