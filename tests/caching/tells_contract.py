"""What is told of prices by another module."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, query
from tests.caching.shop_contract import PriceChanged, Sku


class Tells(Contract, Protocol):
    """What is told of prices."""

    @query(
        "GET /told/{sku}",
        who="anyone",
        cache_s=60,
        tags=["told:{sku}"],
        invalidated_by=[PriceChanged],
    )
    async def told(self, sku: Sku) -> int:
        """How often another module was asked."""
        ...

    @query(who="anyone", cache_s=60, projections=["changes"])
    async def changed(self, sku: Sku) -> int:
        """How often a price was changed, from a projection."""
        ...
