"""How a confirmation reads: the same on every side."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["confirmation"]


def confirmation(to: str, tracking: str, total: str, lines: Iterable[tuple[str, int, str]]) -> str:
    """The text: each line is a product, how many, and what one costs."""
    rows = "\n".join(f"{quantity} x {product} at {cost}" for product, quantity, cost in lines)
    return f"To: {to}\n\nThank you.\n\n{rows}\n\nTotal: {total}\nYour parcel: {tracking}\n"
