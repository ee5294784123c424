"""What the inventory decides."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.inventory.contract import Delivery, Received
from store.inventory.rules import (
    ReservationState,
    decide_end,
    decide_shortages,
    pieces_received,
    pieces_wanted,
)
from store.orders.contract import PricedLine

PRODUCTS = st.integers(1, 5).map(lambda n: UUID(int=n))
PIECES = st.integers(1, 1_000_000)
COUNTS = st.dictionaries(PRODUCTS, PIECES)


def line(product_id: UUID, quantity: int) -> PricedLine:
    return PricedLine(product_id=product_id, sku="S", name="N", quantity=quantity, unit_minor=100)


@given(st.lists(st.tuples(PRODUCTS, PIECES)))
def test_lines_of_one_product_are_wanted_together(lines: list[tuple[UUID, int]]) -> None:
    wanted = pieces_wanted(line(*each) for each in lines)
    assert sum(wanted.values()) == sum(quantity for _, quantity in lines)
    assert set(wanted) == {product for product, _ in lines}


@given(st.lists(st.lists(st.tuples(PRODUCTS, PIECES), max_size=4), max_size=4))
def test_deliveries_add_up(deliveries: list[list[tuple[UUID, int]]]) -> None:
    received = pieces_received(
        Delivery(delivery_no=str(n), items=[Received(product_id=p, quantity=q) for p, q in items])
        for n, items in enumerate(deliveries)
    )
    assert sum(received.values()) == sum(q for items in deliveries for _, q in items)


@given(COUNTS, COUNTS)
def test_an_order_is_short_exactly_when_some_product_would_go_below_zero(
    wanted: dict[UUID, int], free: dict[UUID, int]
) -> None:
    shortages = decide_shortages(wanted, free)
    left = {product: free.get(product, 0) - pieces for product, pieces in wanted.items()}
    assert {shortage.product_id for shortage in shortages} == {p for p, n in left.items() if n < 0}
    assert all(shortage.wanted > shortage.free for shortage in shortages)


@given(
    state=st.sampled_from([None, *ReservationState]),
    ends=st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_the_first_end_counts_and_later_or_repeated_ones_change_nothing(
    state: ReservationState | None, ends: list[bool]
) -> None:
    first = decide_end(state, confirmed=ends[0])
    after = first or state
    assert all(decide_end(after, confirmed=confirmed) is None for confirmed in ends[1:])


@pytest.mark.parametrize(
    ("confirmed", "end"), [(True, ReservationState.SOLD), (False, ReservationState.RELEASED)]
)
def test_what_is_reserved_is_sold_or_released(confirmed: bool, end: ReservationState) -> None:
    assert decide_end(ReservationState.RESERVED, confirmed=confirmed) is end


def test_a_short_order_that_is_rejected_releases_nothing() -> None:
    assert decide_end(ReservationState.SHORT, confirmed=False) is None
