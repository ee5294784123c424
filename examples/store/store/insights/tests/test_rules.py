"""What the insights decide."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from store.insights.rules import day_of, pieces_sold
from store.orders.contract import OrderLine
from tenfold import Money

LINES = st.lists(
    st.builds(
        OrderLine,
        product_id=st.integers(1, 4).map(lambda n: UUID(int=n)),
        sku=st.just("S"),
        name=st.just("N"),
        quantity=st.integers(1, 1_000_000),
        unit_price=st.builds(
            Money.from_minor, st.integers(1, 10**9), st.sampled_from(["GBP", "JPY"])
        ),
    ),
    max_size=12,
)


@given(LINES)
def test_nothing_sold_is_lost_and_currencies_stay_apart(lines: list[OrderLine]) -> None:
    sold = pieces_sold(lines)
    keys = [(each.product_id, each.revenue_currency) for each in sold]
    assert len(set(keys)) == len(keys)
    assert sum(each.quantity for each in sold) == sum(line.quantity for line in lines)
    for currency in ("GBP", "JPY"):
        assert sum(s.revenue_minor for s in sold if s.revenue_currency == currency) == sum(
            line.unit_price.minor * line.quantity
            for line in lines
            if line.unit_price.currency == currency
        )


def test_an_order_counts_for_its_day_in_utc() -> None:
    late = datetime(2010, 12, 1, 23, 30, tzinfo=timezone(timedelta(hours=-2)))
    assert day_of(late) == date(2010, 12, 2)
    assert day_of(datetime(2010, 12, 1, tzinfo=UTC)) == date(2010, 12, 1)
