"""How customers pay."""

from __future__ import annotations

from typing import Protocol

from benchmarks.boutique.currency.contract import Amount
from tenfold import Contract, Refusal, Struct, query

__all__ = ["Card", "CardDeclined", "Payments"]


class Card(Struct):
    """A credit card."""

    number: str
    cvv: int
    year: int
    month: int


class CardDeclined(Refusal, status=422):
    """This card is not taken."""

    reason: str


class Payments(Contract, Protocol):
    """Looks at cards; it keeps nothing, and no money moves."""

    @query(who="internal", raises=[CardDeclined])
    async def charge(self, amount: Amount, card: Card) -> str:
        """The number of the transaction that pays an amount."""
        ...
