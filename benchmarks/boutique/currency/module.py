"""The currencies' handlers."""

from __future__ import annotations

from typing import final

from benchmarks.boutique.currency import rules
from benchmarks.boutique.currency.contract import Amount, Currencies, UnknownCurrency

__all__ = ["CurrenciesModule"]


@final
class CurrenciesModule(Currencies):
    """Converts by a table of rates."""

    async def supported(self) -> list[str]:
        """All that have a rate."""
        return rules.CODES

    async def convert(self, amount: Amount, to: str) -> Amount:
        """What an amount is worth."""
        try:
            units, nanos = rules.convert(amount.currency, amount.units, amount.nanos, to)
        except KeyError as error:
            raise UnknownCurrency(currency=error.args[0]) from error
        return Amount(currency=to, units=units, nanos=nanos)
