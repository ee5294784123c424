"""Adding up: the same on every side."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["add_up"]

NANOS = 1_000_000_000


def add_up(parts: Iterable[tuple[int, int, int]]) -> tuple[int, int]:
    """The sum of amounts, each given as units, nanos and how many times; units and nanos."""
    return divmod(sum((units * NANOS + nanos) * times for units, nanos, times in parts), NANOS)
