"""Amounts of money, and what they are worth in other currencies."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from tenfold import Contract, Refusal, Struct, query

__all__ = ["Amount", "Code", "Currencies", "UnknownCurrency"]

Code = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")]
"""A currency by ISO 4217."""


class Amount(Struct):
    """So many units of a currency, and billionths of one."""

    currency: str
    units: int
    nanos: int


class UnknownCurrency(Refusal, status=422):
    """The shop has no rate for this currency."""

    currency: str


class Currencies(Contract, Protocol):
    """Converts amounts by the rates of the day."""

    @query(who="internal")
    async def supported(self) -> list[str]:
        """The currencies that prices can be shown in."""
        ...

    @query(who="internal", raises=[UnknownCurrency])
    async def convert(self, amount: Amount, to: Code) -> Amount:
        """What an amount is worth in another currency."""
        ...
