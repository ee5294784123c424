"""Values on their way from SQLite to PostgreSQL, and the form in which both are compared."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.runtimes.moving.copying import Sums
from tenfold.runtimes.moving.values import canonical, fingerprint, to_target


@pytest.mark.parametrize(
    ("type_", "raw", "there"),
    [
        ("uuid", b"\x00" * 15 + b"\x01", UUID(int=1)),
        ("timestamp with time zone", -1, datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("date", -1, date(1969, 12, 31)),
        ("date", "2026-02-03", date(2026, 2, 3)),
        ("numeric(21,3)", -125, Decimal("-0.125")),
        ("boolean", 1, True),
        ("double precision", 2, 2.0),
        ("bigint", 7, 7),
        ("text", "é", "é"),
        ("bytea", b"\x00\xff", b"\x00\xff"),
        ("jsonb", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_value_becomes_what_the_column_takes(type_: str, raw: Any, there: Any) -> None:
    made = to_target(type_)(raw)
    assert (made, type(made)) == (there, type(there))
    assert to_target(type_)(None) is None
    assert canonical(type_)(None) is None


def test_json_is_compared_by_its_value() -> None:
    compared = canonical("jsonb")
    assert compared('{"b":1.50,"a":[1e2,true]}') == compared('{"a": [100, true], "b": 1.5}')
    assert compared('{"a":1}') != compared('{"a":2}')
    assert compared('{"a":1}') != compared('{"a":"1"}')


@pytest.mark.parametrize("places", [0, 3, 12])
@given(raw=st.integers(-(2**63), 2**63 - 1))
def test_a_decimal_is_compared_exactly(places: int, raw: int) -> None:
    type_ = f"numeric({18 + places},{places})"
    assert canonical(type_)(to_target(type_)(raw)) == raw


@given(raw=st.integers(-(2**55), 2**57))
def test_a_moment_is_compared_to_the_microsecond(raw: int) -> None:
    type_ = "timestamp with time zone"
    assert canonical(type_)(to_target(type_)(raw)) == raw


@given(st.lists(st.lists(st.integers() | st.text() | st.none(), min_size=2, max_size=2)), st.data())
def test_a_sum_does_not_depend_on_the_order_of_rows(rows: list[Any], data: Any) -> None:
    rows = [[str(value) for value in row] for row in rows]
    one, other = Sums(), Sums()
    for row in rows:
        one.at_source(row)
        other.at_source([*row, "more"])
        other.at_source([*row, "more"], -1)
    for row in data.draw(st.permutations(rows)):
        other.at_source(row)
    assert (one.source, one.source_rows) == (other.source, other.source_rows)


def test_rows_that_are_alike_in_their_texts_only_differ() -> None:
    rows: list[list[Any]] = [
        ["a", "bc"],
        ["ab", "c"],
        ["abc", None],
        ["abc", ""],
        [b"abc", ""],
        [1, "abc"],
    ]
    assert len({fingerprint(row) for row in rows}) == len(rows)
