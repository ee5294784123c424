"""How goods get to customers."""

from __future__ import annotations

from typing import Protocol

from benchmarks.boutique.cartstore.contract import Item
from benchmarks.boutique.currency.contract import Amount
from tenfold import Contract, Struct, query

__all__ = ["Address", "Shipping"]


class Address(Struct):
    """Where somebody lives."""

    street: str
    city: str
    state: str
    country: str
    zip_code: int


class Shipping(Contract, Protocol):
    """Says what shipping costs, and gives numbers to parcels; it keeps nothing."""

    @query(who="internal")
    async def quote(self, address: Address, items: list[Item]) -> Amount:
        """What it costs to ship these, in dollars."""
        ...

    @query(who="internal")
    async def ship(self, address: Address, items: list[Item]) -> str:
        """The number by which the parcel can be followed."""
        ...
