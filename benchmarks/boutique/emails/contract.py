"""What customers are written."""

from __future__ import annotations

from typing import Protocol

from benchmarks.boutique.checkout.contract import Order
from tenfold import Contract, query

__all__ = ["Emails"]


class Emails(Contract, Protocol):
    """Writes confirmations; it keeps nothing, and nothing is sent."""

    @query(who="internal")
    async def confirm(self, to: str, order: Order) -> str:
        """The text that confirms an order."""
        ...
