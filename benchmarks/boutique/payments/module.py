"""The payments' handler."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.currency.contract import Amount
from benchmarks.boutique.payments import rules
from benchmarks.boutique.payments.contract import Card, CardDeclined, Payments

__all__ = ["PaymentsModule"]


@final
class PaymentsModule(Payments):
    """Takes cards whose numbers add up."""

    async def charge(self, amount: Amount, card: Card) -> str:
        """The number of the transaction."""
        reason = rules.reason_against(card.number, card.year, card.month)
        if reason is not None:
            raise CardDeclined(reason=reason)
        return rules.transaction(card.number, amount.currency, amount.units, amount.nanos)
