"""Carts in the memory of one process: the same on every side that has no database."""

from __future__ import annotations

__all__ = ["Shelf"]


class Shelf:
    """Pieces by customer and product."""

    def __init__(self) -> None:
        self._carts: dict[str, dict[str, int]] = {}

    def read(self, user_id: str) -> list[tuple[str, int]]:
        """What is in a cart, by product."""
        return sorted(self._carts.get(user_id, {}).items())

    def add(self, user_id: str, product_id: str, quantity: int) -> None:
        """Put more in."""
        cart = self._carts.setdefault(user_id, {})
        cart[product_id] = cart.get(product_id, 0) + quantity

    def clear(self, user_id: str) -> None:
        """Take everything out."""
        self._carts.pop(user_id, None)
