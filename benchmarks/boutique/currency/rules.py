"""Rates, and how amounts are converted: the same on every side."""

from __future__ import annotations

__all__ = ["CODES", "convert"]

NANOS = 1_000_000_000
MICROS_PER_EURO = {
    "EUR": 1_000_000, "USD": 1_130_500, "JPY": 126_400_000, "BGN": 1_955_800,
    "CZK": 25_592_000, "DKK": 7_460_900, "GBP": 859_700, "HUF": 315_510_000,
    "PLN": 4_299_600, "RON": 4_746_300, "SEK": 10_537_500, "CHF": 1_136_000,
    "ISK": 136_800_000, "NOK": 9_804_000, "TRY": 6_124_700, "AUD": 1_607_200,
    "BRL": 4_268_200, "CAD": 1_512_800, "CNY": 7_585_700, "HKD": 8_874_300,
    "IDR": 15_999_400_000, "ILS": 4_087_500, "INR": 79_432_000, "KRW": 1_275_050_000,
    "MXN": 21_799_900, "MYR": 4_628_900, "NZD": 1_667_900, "PHP": 59_083_000,
    "SGD": 1_534_900, "THB": 36_012_000, "ZAR": 16_058_300,
}  # fmt: skip
"""What a euro is worth, in millionths."""
CODES = list(MICROS_PER_EURO)


def convert(currency: str, units: int, nanos: int, to: str) -> tuple[int, int]:
    """Units and nanos in another currency, rounded down to a billionth.

    Raises: KeyError naming the currency without a rate.
    """
    total = (units * NANOS + nanos) * MICROS_PER_EURO[to] // MICROS_PER_EURO[currency]
    return divmod(total, NANOS)
