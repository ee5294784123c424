"""Values that contracts share: instants, money, pages."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, DecimalException
from typing import Annotated, Generic, TypeVar

import msgspec

from tenfold.contracts.currencies import MINOR_DIGITS
from tenfold.contracts.structs import Struct

__all__ = ["AMOUNT_PATTERN", "Currency", "CurrencyMismatchError", "Instant", "Money", "Page"]

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment: a datetime that knows its time zone."""

Currency = Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", examples=["GBP"])]
"""A currency's ISO 4217 code."""

AMOUNT_PATTERN = r"^-?[0-9]{1,15}(\.[0-9]{1,4})?$"
"""What an amount of money looks like where it comes from outside."""

_Amount = Annotated[
    Decimal,
    msgspec.Meta(extra_json_schema={"pattern": AMOUNT_PATTERN, "examples": ["2.55"]}),
]
_QUANTA = {currency: Decimal(1).scaleb(-digits) for currency, digits in MINOR_DIGITS.items()}
_BOUND_DIGITS = 15
_BOUND = Decimal(10**_BOUND_DIGITS)
_SHOWN = 40
_T = TypeVar("_T")


class CurrencyMismatchError(ValueError):
    """Two amounts in different currencies were added, subtracted or compared."""


class Money(Struct, frozen=True, kw_only=True):
    """An exact amount in one currency.

    The amount is a decimal with at most the digits that ISO 4217 gives the
    currency (`2.55` GBP, `255` JPY) and below 10^15; on a wire it is a string. It is the one struct
    that checks itself when it is made, since a wrong amount must never exist.
    """

    amount: _Amount
    currency: Currency

    def __post_init__(self) -> None:
        amount = self.amount
        quantum = _QUANTA.get(self.currency)
        if (
            type(amount) is Decimal
            and quantum is not None
            and amount.same_quantum(quantum)
            and -_BOUND < amount < _BOUND
            and (amount or not amount.is_signed())
        ):
            return  # the ordinary case: nothing to refuse, and written as it must be
        if not isinstance(amount, Decimal):
            raise ValueError(f"an amount is a Decimal, not {type(amount).__name__}")
        digits = MINOR_DIGITS.get(self.currency)
        if digits is None:
            raise ValueError(f"{self.currency!r} is not an ISO 4217 currency code")
        if not amount.is_finite():
            raise ValueError(f"the amount {amount} is not a finite number")
        if amount and amount.adjusted() >= _BOUND_DIGITS:  # without arithmetic, which overflows
            raise ValueError(f"the amount {_shown(amount)} is not below 10^15")
        try:
            rounded = round(amount, digits)
            # 2.5 and 2.50 are one amount and must be written the same way, and so must 0 and -0.
            written = amount.quantize(_QUANTA[self.currency])
        except DecimalException as error:
            raise ValueError(f"the amount {_shown(amount)} cannot be represented") from error
        exponent = amount.as_tuple().exponent
        if isinstance(exponent, int) and -exponent > digits and amount != rounded:
            raise ValueError(
                f"{self.currency} has {digits} decimal places, and {_shown(amount)} has more"
            )
        msgspec.structs.force_setattr(self, "amount", written or written.copy_abs())

    @staticmethod
    def from_minor(minor: int, currency: str) -> Money:
        """An amount from a whole number of the currency's smallest unit (pennies)."""
        digits = MINOR_DIGITS.get(currency, 0)  # of a currency that there is not, Money says so
        return Money(amount=Decimal(minor).scaleb(-digits), currency=currency)

    @staticmethod
    def zero(currency: str) -> Money:
        """Nothing, in one currency."""
        return Money.from_minor(0, currency)

    @property
    def minor(self) -> int:
        """The amount as a whole number of the currency's smallest unit; exact."""
        return int(self.amount.scaleb(MINOR_DIGITS[self.currency]))

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatchError(
                f"{self} and {other} are in different currencies. Convert one of them first."
            )

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(amount=self.amount + other.amount, currency=self.currency)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(amount=self.amount - other.amount, currency=self.currency)

    def __mul__(self, times: int) -> Money:
        return Money(amount=self.amount * times, currency=self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: Money) -> bool:
        self._same(other)
        return self.amount < other.amount

    def __le__(self, other: Money) -> bool:
        self._same(other)
        return self.amount <= other.amount

    def __str__(self) -> str:
        return f"{self.amount:,} {self.currency}"


def _shown(amount: Decimal) -> str:
    text = str(amount)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


class Page(Struct, Generic[_T]):
    """One page of a list: its items, and the cursor of the next page; None at the end."""

    items: list[_T]
    next: str | None = None
