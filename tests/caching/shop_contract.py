"""The shop's contract: prices, kept in every way."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from tenfold import Contract, Event, Refusal, Struct, command, query

Sku = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class PriceChanged(Event, key="sku"):
    sku: str
    price: int


class NoSuchSku(Refusal, status=404):
    sku: str


class Price(Struct):
    sku: str
    price: int
    labels: list[str]


class Shop(Contract, Protocol):
    """Prices."""

    @command("POST /prices", who="anyone")
    async def set_price(self, sku: Sku, price: int) -> int:
        """Set a price, with an event."""
        ...

    @command(who="anyone", invalidates=["quiet:{sku}"])
    async def set_quietly(self, sku: Sku, price: int) -> int:
        """Set a price, without an event."""
        ...

    @command(who="anyone")
    async def decide(self, sku: Sku) -> list[int]:
        """Ask the other module for a decision, then for an older answer."""
        ...

    @query(
        "GET /prices/{sku}",
        who="anyone",
        raises=[NoSuchSku],
        cache_s=60,
        tags=["product:{sku}"],
        invalidated_by=[PriceChanged],
        stale_if_error_s=600,
    )
    async def price(self, sku: Sku) -> Price:
        """A price, kept for who asked."""
        ...

    @query(
        "GET /shared/{sku}",
        who="anyone",
        cache_s=60,
        tags=["quiet:{sku}"],
        cache_for="everyone",
    )
    async def shared(self, sku: Sku) -> str:
        """A price and who asked, kept for everyone."""
        ...

    @query("GET /timed/{sku}", who="anyone", cache_s=60)
    async def timed(self, sku: Sku) -> int:
        """A price, kept for its time and nothing else."""
        ...

    @query(who="anyone", cache_s=2, tags=["brief:{sku}"], cache_for="everyone")
    async def brief(self, sku: Sku) -> int:
        """A price that is dear to compute and kept briefly."""
        ...

    @query(who="anyone")
    async def through(self, sku: Sku) -> int:
        """A query that is not kept and asks another module one that is."""
        ...
