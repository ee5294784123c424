from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.importing.lines import (
    COLUMNS,
    NotSuchAFileError,
    Reason,
    TakenLine,
    classify,
    locate_columns,
)

GOOD = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": "WHITE HANGING HEART T-LIGHT HOLDER",
    "Quantity": "6",
    "InvoiceDate": "12/1/2010 8:26",
    "UnitPrice": "2.55",
    "CustomerID": "17850",
    "Country": "United Kingdom",
}
ORDINARY = locate_columns(COLUMNS)


def judge(**changes: str) -> TakenLine | Reason:
    return classify(2, list({**GOOD, **changes}.values()), ORDINARY)


def test_an_ordinary_line_is_taken_with_its_exact_price_and_time() -> None:
    taken = judge()
    assert isinstance(taken, TakenLine)
    assert (taken.invoice, taken.sku, taken.quantity, taken.customer_id) == (
        "536365",
        "85123A",
        6,
        "17850",
    )
    assert taken.price.amount == Decimal("2.55")
    assert taken.placed_at == datetime(2010, 12, 1, 8, 26, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"InvoiceNo": "C536365"}, Reason.CANCELLED),
        ({"Description": "  "}, Reason.NO_DESCRIPTION),
        ({"Quantity": "0"}, Reason.BAD_QUANTITY),
        ({"Quantity": "-6"}, Reason.BAD_QUANTITY),
        ({"Quantity": "1.5"}, Reason.BAD_QUANTITY),
        ({"Quantity": "six"}, Reason.BAD_QUANTITY),
        ({"Quantity": ""}, Reason.BAD_QUANTITY),
        ({"Quantity": "٦"}, Reason.BAD_QUANTITY),
        ({"UnitPrice": "0"}, Reason.BAD_PRICE),
        ({"UnitPrice": "-11062.06"}, Reason.BAD_PRICE),
        ({"UnitPrice": "free"}, Reason.BAD_PRICE),
        ({"UnitPrice": "nan"}, Reason.BAD_PRICE),
        ({"UnitPrice": ""}, Reason.BAD_PRICE),
        ({"CustomerID": " "}, Reason.NO_CUSTOMER),
        ({"InvoiceDate": "2010-12-01 08:26"}, Reason.UNREADABLE),
        ({"InvoiceDate": "13/1/2010 8:26"}, Reason.UNREADABLE),
        ({"InvoiceDate": "2/29/2011 8:26"}, Reason.UNREADABLE),
        ({"InvoiceDate": "12/1/2010 24:00"}, Reason.UNREADABLE),
        ({"UnitPrice": "0.001"}, Reason.UNREADABLE),
        ({"UnitPrice": "99999999999"}, Reason.UNREADABLE),
        ({"UnitPrice": "9999999999999999999999999999.55"}, Reason.UNREADABLE),
        ({"UnitPrice": "1" * 40 + "." + "5" * 20}, Reason.UNREADABLE),
        ({"Quantity": "1000001"}, Reason.UNREADABLE),
        ({"InvoiceNo": ""}, Reason.UNREADABLE),
        ({"StockCode": ""}, Reason.UNREADABLE),
        ({"StockCode": "A\x00B"}, Reason.UNREADABLE),
        ({"Description": "x" * 201}, Reason.UNREADABLE),
        ({"CustomerID": "x" * 65}, Reason.UNREADABLE),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(changes: dict[str, str], reason: Reason) -> None:
    assert judge(**changes) is reason


def test_the_first_reason_that_holds_is_given() -> None:
    faults = [
        ({"InvoiceNo": "C1"}, Reason.CANCELLED),
        ({"Description": ""}, Reason.NO_DESCRIPTION),
        ({"Quantity": "-1"}, Reason.BAD_QUANTITY),
        ({"UnitPrice": "0"}, Reason.BAD_PRICE),
        ({"CustomerID": ""}, Reason.NO_CUSTOMER),
        ({"InvoiceDate": "?"}, Reason.UNREADABLE),
    ]
    for first in range(len(faults)):
        changes: dict[str, str] = {}
        for fault, _ in faults[first:]:
            changes |= fault
        assert judge(**changes) is faults[first][1]


@pytest.mark.parametrize("price", ["2.5", "2.50", "2.500", "+2.5", "02.5"])
def test_an_amount_is_the_same_however_it_is_written(price: str) -> None:
    taken = judge(UnitPrice=price)
    assert isinstance(taken, TakenLine)
    assert taken.price.minor == 250


def test_a_line_with_too_few_or_too_many_fields_is_unreadable_or_cancelled() -> None:
    fields = list(GOOD.values())
    assert classify(2, fields[:-1], ORDINARY) is Reason.UNREADABLE
    assert classify(2, [*fields, ""], ORDINARY) is Reason.UNREADABLE
    assert classify(2, ["C1", "x"], ORDINARY) is Reason.CANCELLED
    assert classify(2, None, ORDINARY) is Reason.UNREADABLE


def test_columns_are_found_by_name_in_any_order() -> None:
    shuffled = ["Extra", *reversed(COLUMNS)]
    fields = ["", *reversed(list(GOOD.values()))]
    taken = classify(2, fields, locate_columns(shuffled))
    assert isinstance(taken, TakenLine)
    assert taken.sku == "85123A"


def test_missing_columns_are_named_with_what_may_be_meant() -> None:
    header = ["Invoice", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice"]
    with pytest.raises(NotSuchAFileError) as caught:
        locate_columns(header)
    said = str(caught.value)
    assert "InvoiceNo, CustomerID, Country are missing" in said
    assert "'InvoiceNo' may be meant by 'Invoice'" in said


def test_a_doubled_column_is_not_guessed() -> None:
    with pytest.raises(NotSuchAFileError, match="UnitPrice stand there more than once"):
        locate_columns([*COLUMNS, "UnitPrice"])


@given(st.lists(st.text(max_size=30), max_size=10) | st.none())
def test_classifying_never_raises(fields: list[str] | None) -> None:
    assert isinstance(classify(2, fields, ORDINARY), TakenLine | Reason)


@given(
    st.fixed_dictionaries(
        {
            name: st.one_of(
                st.just(value), st.text(max_size=12), st.from_regex(r"[-+0-9./: ]{0,20}")
            )
            for name, value in GOOD.items()
        }
    )
)
def test_a_taken_line_is_one_that_the_store_can_hold(fields: dict[str, str]) -> None:
    judged = classify(2, list(fields.values()), ORDINARY)
    if isinstance(judged, TakenLine):
        assert 1 <= judged.quantity <= 1_000_000
        assert judged.price.minor >= 1
        assert Decimal(fields["UnitPrice"].strip()) == judged.price.amount
        assert judged.name == fields["Description"].strip()
