"""The emails' handler."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.checkout.contract import Order
from benchmarks.boutique.currency.contract import Amount
from benchmarks.boutique.emails import rules
from benchmarks.boutique.emails.contract import Emails

__all__ = ["EmailsModule"]


@final
class EmailsModule(Emails):
    """Writes what nobody reads."""

    async def confirm(self, to: str, order: Order) -> str:
        """The text that confirms an order."""
        lines = [(line.product_id, line.quantity, _shown(line.cost)) for line in order.lines]
        return rules.confirmation(to, order.tracking, _shown(order.total), lines)


def _shown(amount: Amount) -> str:
    return f"{amount.units}.{amount.nanos // 10_000_000:02} {amount.currency}"
