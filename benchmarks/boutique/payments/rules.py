"""Which cards are taken: the same on every side."""

from __future__ import annotations

from hashlib import blake2s

__all__ = ["reason_against", "transaction"]

TODAY = (2026, 11)


def reason_against(number: str, year: int, month: int) -> str | None:
    """Why a card is not taken; None if it is."""
    digits = [int(each) for each in number if each.isdigit()]
    doubled = [2 * each - 9 * (each > 4) for each in digits[-2::-2]]
    if len(digits) != 16 or (sum(digits[-1::-2]) + sum(doubled)) % 10:
        return "the number is wrong"
    if digits[0] not in (4, 5):
        return "only Visa and Mastercard are taken"
    if (year, month) < TODAY:
        return "it has expired"
    return None


def transaction(number: str, currency: str, units: int, nanos: int) -> str:
    """The number of a transaction, from who pays how much."""
    paid = f"{number[-4:]} {currency} {units}.{nanos}"
    return blake2s(paid.encode(), digest_size=16).hexdigest()
