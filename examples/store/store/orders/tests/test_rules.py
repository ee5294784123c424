"""What the orders decide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.catalog.contract import Product
from store.orders.contract import (
    MAX_TOTAL_MINOR,
    CustomerId,
    InvoiceLine,
    Line,
    MixedCurrencies,
    Order,
    OrderStatus,
    OrderTooLarge,
    RejectionReason,
    UnknownProducts,
)
from store.orders.rules import (
    Placement,
    decide_end,
    decide_invoice,
    decide_order,
    merge_lines,
    order_of,
)
from tenfold import Money

AT = datetime(2010, 12, 1, 8, 26, tzinfo=UTC)
PLACEMENT = Placement(order_id=UUID(int=77), customer_id="17850", placed_at=AT)
PRODUCTS = st.integers(1, 5).map(lambda n: UUID(int=n))
LINES = st.lists(
    st.builds(Line, product_id=PRODUCTS, quantity=st.integers(1, 1_000)), min_size=1, max_size=20
)


def product(number: int, minor: int = 255, currency: str = "GBP") -> Product:
    price = Money.from_minor(minor, currency)
    return Product(
        id=UUID(int=number), sku=f"S{number}", name=f"N{number}", price=price, created_at=AT
    )


CATALOGUE = [product(number, minor=number * 101) for number in range(1, 6)]


@given(LINES)
def test_lines_of_one_product_become_one_in_order_of_first_mention(lines: list[Line]) -> None:
    merged = merge_lines(lines)
    assert [line.product_id for line in merged] == list(dict.fromkeys(x.product_id for x in lines))
    assert sum(line.quantity for line in merged) == sum(line.quantity for line in lines)


@given(LINES)
def test_total_is_the_sum_of_its_lines_to_the_penny(lines: list[Line]) -> None:
    order = decide_order(PLACEMENT, lines, CATALOGUE)
    expected = sum(line.product_id.int * 101 * line.quantity for line in lines)
    assert order.total == Money.from_minor(expected, "GBP")
    shown = order_of(order)
    assert sum((x.unit_price * x.quantity for x in shown.lines), Money.zero("GBP")) == order.total
    assert order.status is OrderStatus.PLACED
    assert order.reason is None


def test_unknown_products_are_refused_by_name_and_once() -> None:
    lines = [Line(product_id=UUID(int=n), quantity=1) for n in (9, 1, 9, 8)]
    with pytest.raises(UnknownProducts) as refused:
        decide_order(PLACEMENT, lines, CATALOGUE)
    assert refused.value.payload() == {"product_ids": [UUID(int=9), UUID(int=8)]}


def test_products_in_different_currencies_are_refused() -> None:
    lines = [Line(product_id=UUID(int=n), quantity=1) for n in (1, 2)]
    with pytest.raises(MixedCurrencies) as refused:
        decide_order(PLACEMENT, lines, [product(1), product(2, currency="EUR")])
    assert refused.value.payload() == {"currencies": ["EUR", "GBP"]}


def test_an_order_may_cost_the_limit_and_no_penny_more() -> None:
    dear = [product(1, minor=MAX_TOTAL_MINOR // 1_000_000), product(2, minor=1)]
    most = Line(product_id=UUID(int=1), quantity=1_000_000)
    assert decide_order(PLACEMENT, [most], dear).total.minor == MAX_TOTAL_MINOR
    with pytest.raises(OrderTooLarge):
        decide_order(PLACEMENT, [most, Line(product_id=UUID(int=2), quantity=1)], dear)


def test_an_invoice_keeps_its_own_prices_lines_and_time() -> None:
    here = timezone(timedelta(hours=2))
    placement = Placement(order_id=UUID(int=7), customer_id="1", placed_at=AT.astimezone(here))
    lines = [
        InvoiceLine(
            product_id=UUID(int=1), quantity=quantity, unit_price=Money.from_minor(minor, "GBP")
        )
        for quantity, minor in ((6, 255), (2, 210))
    ]
    order = decide_invoice(placement, lines, CATALOGUE)
    assert [(line.quantity, line.unit_minor) for line in order.lines] == [(6, 255), (2, 210)]
    assert order.total.minor == 6 * 255 + 2 * 210
    assert order.placed_at == AT
    assert order.placed_at.utcoffset() == timedelta(0)


@given(st.lists(st.sampled_from([None, *RejectionReason]), min_size=1, max_size=5))
def test_the_first_end_counts_whatever_comes_late_or_twice(
    reasons: list[RejectionReason | None],
) -> None:
    end = decide_end(OrderStatus.PLACED, reasons[0])
    assert end is not None
    status, reason = end
    assert reason is reasons[0]
    assert status is (OrderStatus.CONFIRMED if reason is None else OrderStatus.REJECTED)
    assert all(decide_end(status, later) is None for later in reasons)


def test_reason_is_written_only_where_there_is_one() -> None:
    record = decide_order(PLACEMENT, [Line(product_id=UUID(int=1), quantity=1)], CATALOGUE)
    order = order_of(record)
    assert "reason" not in msgspec.to_builtins(order)
    turned_down = msgspec.structs.replace(order, reason=RejectionReason.OUT_OF_STOCK)
    assert msgspec.to_builtins(turned_down)["reason"] == "out_of_stock"
    assert msgspec.convert(msgspec.to_builtins(turned_down), Order) == turned_down


@pytest.mark.parametrize("customer_id", ["", " ", "a b", "17850\n", "x" * 65, "../x"])
def test_what_is_no_customer_number_is_refused(customer_id: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(customer_id, CustomerId)
