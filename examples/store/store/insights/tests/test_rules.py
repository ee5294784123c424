"""What the insights decide."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from store.insights.rules import day_of, pieces_sold
from store.orders.contract import PricedLine

LINES = st.lists(
    st.builds(
        PricedLine,
        product_id=st.integers(1, 4).map(lambda n: UUID(int=n)),
        sku=st.just("S"),
        name=st.just("N"),
        quantity=st.integers(1, 1_000_000),
        unit_minor=st.integers(1, 10**9),
    ),
    max_size=12,
)


@given(LINES)
def test_nothing_sold_is_lost(lines: list[PricedLine]) -> None:
    sold = pieces_sold(lines, "JPY")
    assert len({each.product_id for each in sold}) == len(sold)
    assert sum(each.quantity for each in sold) == sum(line.quantity for line in lines)
    revenue = sum(line.unit_minor * line.quantity for line in lines)
    assert sum(each.revenue_minor for each in sold) == revenue
    assert {each.revenue_currency for each in sold} <= {"JPY"}


def test_an_order_counts_for_its_day_in_utc() -> None:
    late = datetime(2010, 12, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert day_of(late) == date(2010, 12, 2)
    assert day_of(datetime(2010, 12, 1, tzinfo=UTC)) == date(2010, 12, 1)
