"""Advertisements by category: the same on every side."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["choose"]

ADS = {
    "clothing": ("Tank top for sale. 20% off.", "6SHIRTS006"),
    "accessories": ("Watch for sale. Buy one, get a second one free.", "7WATCHR007"),
    "footwear": ("Loafers for sale. Buy one, get the other one free.", "4LOAFER004"),
    "hair": ("Hairdryer for sale. 50% off.", "8DRYERS008"),
    "home": ("Candle holder for sale. 30% off.", "1CANDLE001"),
    "kitchen": ("Bamboo jar for sale. 10% off.", "2BAMBOO002"),
}


def choose(categories: Sequence[str]) -> list[tuple[str, str]]:
    """Text and product of each advertisement for these categories; the watch where none is."""
    return [ADS[each] for each in categories if each in ADS] or [ADS["accessories"]]
