"""What the inventory decides: whether an order can be set aside, and what becomes of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from uuid import UUID

from store.inventory.contract import Delivery, Shortage
from store.orders.contract import PricedLine

__all__ = [
    "ReservationState",
    "decide_end",
    "decide_shortages",
    "pieces_received",
    "pieces_wanted",
]


class ReservationState(str, Enum):
    """Where the pieces of one order stand. All but `reserved` are final."""

    RESERVED = "reserved"
    SHORT = "short"
    SOLD = "sold"
    RELEASED = "released"


def pieces_wanted(lines: Iterable[PricedLine]) -> dict[UUID, int]:
    """How many pieces of each product an order wants, lines of one product together."""
    wanted: dict[UUID, int] = {}
    for line in lines:
        wanted[line.product_id] = wanted.get(line.product_id, 0) + line.quantity
    return wanted


def pieces_received(deliveries: Iterable[Delivery]) -> dict[UUID, int]:
    """How many pieces of each product came in, in all of these deliveries."""
    received: dict[UUID, int] = {}
    for delivery in deliveries:
        for item in delivery.items:
            received[item.product_id] = received.get(item.product_id, 0) + item.quantity
    return received


def decide_shortages(wanted: Mapping[UUID, int], free: Mapping[UUID, int]) -> list[Shortage]:
    """What keeps an order from being set aside; empty where every line can be.

    A product that was never received has nothing free.
    """
    return [
        Shortage(product_id=product_id, wanted=pieces, free=free.get(product_id, 0))
        for product_id, pieces in wanted.items()
        if pieces > free.get(product_id, 0)
    ]


def decide_end(state: ReservationState | None, *, confirmed: bool) -> ReservationState | None:
    """What a reservation becomes when its order ends; None where nothing is to be done.

    The first end counts: a later or repeated one finds the pieces gone and
    changes nothing. An order that was short has nothing set aside, and one
    that the inventory never saw has neither.
    """
    if state is not ReservationState.RESERVED:
        return None
    return ReservationState.SOLD if confirmed else ReservationState.RELEASED
