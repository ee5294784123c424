"""The basket, kept in a cookie: product ids and quantities, nothing else. Pure."""

from __future__ import annotations

import re
from collections.abc import Container
from uuid import UUID

from tenfold import Struct

__all__ = ["Basket", "BasketLine"]

LONGEST_BASKET = 25
LARGEST_QUANTITY = 999
_LINE = re.compile(r"([0-9a-f]{32})\.([0-9]{1,3})", re.ASCII)


class BasketLine(Struct):
    """So many pieces of one product, 1 to 999."""

    product_id: UUID
    quantity: int


class Basket(Struct):
    """What a visitor means to buy, at most 25 products, in the order in which they were added.

    The cookie is plain, since nothing in it is believed: prices and stock are
    read anew, and what cannot be read is dropped.
    """

    lines: tuple[BasketLine, ...] = ()

    @staticmethod
    def read(cookie: str) -> Basket:
        """Read a cookie's value; damaged parts are left out."""
        quantities: dict[UUID, int] = {}
        for part in cookie.split("-")[:LONGEST_BASKET]:
            match = _LINE.fullmatch(part)
            if match and int(match[2]) > 0:
                quantities[UUID(match[1])] = int(match[2])
        return Basket(
            lines=tuple(BasketLine(product_id=p, quantity=q) for p, q in quantities.items())
        )

    def cookie(self) -> str:
        """The value that `read` reads."""
        return "-".join(f"{line.product_id.hex}.{line.quantity}" for line in self.lines)

    @property
    def pieces(self) -> int:
        """How many pieces it holds in all."""
        return sum(line.quantity for line in self.lines)

    def quantity(self, product_id: UUID) -> int:
        """How many pieces of one product it holds."""
        return sum(line.quantity for line in self.lines if line.product_id == product_id)

    def has_room_for(self, product_id: UUID) -> bool:
        """Whether a product can be added: it is in already, or there are fewer than 25."""
        return len(self.lines) < LONGEST_BASKET or self.quantity(product_id) > 0

    def only(self, known: Container[UUID]) -> Basket:
        """The same basket without the products that are not among these."""
        return Basket(lines=tuple(line for line in self.lines if line.product_id in known))

    def with_quantity(self, product_id: UUID, quantity: int) -> Basket:
        """The same basket with so many pieces of a product, at most 999; 0 takes it out."""
        quantity = min(quantity, LARGEST_QUANTITY)
        if quantity <= 0:
            return Basket(lines=tuple(x for x in self.lines if x.product_id != product_id))
        new = BasketLine(product_id=product_id, quantity=quantity)
        if self.quantity(product_id):
            lines = tuple(new if x.product_id == product_id else x for x in self.lines)
            return Basket(lines=lines)
        return Basket(lines=(*self.lines, new)) if self.has_room_for(product_id) else self
