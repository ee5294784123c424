"""The column types give back what they took, or refuse it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from tenfold.contracts.structs import Struct
from tenfold.tables.columns import Day, Exact, Instant, Json, Minor, Uuid, metadata
from tenfold.tables.errors import ParameterError, TableDeclarationError


class Line(Struct):
    name: str
    quantity: int = 1


SQLITE = SQLiteDialect_pysqlite()
CONNECTION = sqlite3.connect(":memory:", check_same_thread=False)
MOMENTS = st.datetimes(  # a day away from both ends, so that every zone can say it
    min_value=datetime(1, 1, 3),  # noqa: DTZ001
    max_value=datetime(9999, 12, 29),  # noqa: DTZ001
    timezones=st.timezones(),
)
LINES = st.lists(
    st.builds(
        Line,
        name=st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        quantity=st.integers(-(2**53), 2**53),
    )
)


def there_and_back(type_: Any, value: Any) -> Any:
    bind, result = type_.bind_processor(SQLITE), type_.result_processor(SQLITE, None)
    row = CONNECTION.execute("SELECT ?", (value if bind is None else bind(value),)).fetchone()
    return row[0] if result is None else result(row[0])


@settings(deadline=None)
@given(st.uuids())
def test_uuids(value: UUID) -> None:
    assert there_and_back(Uuid(), value) == value


@settings(deadline=None)
@given(MOMENTS)
def test_moments_to_the_microsecond_in_any_zone(value: datetime) -> None:
    back = there_and_back(Instant(), value)
    assert back == value.astimezone(UTC)
    assert back.utcoffset() == timedelta(0)


@settings(deadline=None)
@given(MOMENTS, MOMENTS)
def test_moments_sort_as_they_are_stored(one: datetime, two: datetime) -> None:
    bind: Any = Instant().bind_processor(SQLITE)
    first, second = one.astimezone(UTC), two.astimezone(UTC)
    assert (bind(one) < bind(two)) is (first < second)


@settings(deadline=None)
@given(st.datetimes())
def test_moments_without_a_zone_are_refused(value: datetime) -> None:
    with pytest.raises(ParameterError, match="with a time zone"):
        there_and_back(Instant(), value)


@settings(deadline=None)
@given(st.dates())
def test_days(value: date) -> None:
    assert there_and_back(Day(), value) == value


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1))
def test_minor_units(value: int) -> None:
    assert there_and_back(Minor(), value) == value


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 12))
def test_decimals_are_exact(scaled: int, places: int) -> None:
    value = Decimal(scaled).scaleb(-places)
    back = there_and_back(Exact(places), value)
    assert back == value
    assert back.as_tuple().exponent == -places


@settings(deadline=None)
@given(st.decimals(), st.integers(0, 12))
def test_a_decimal_comes_back_equal_or_is_refused(value: Decimal, places: int) -> None:
    try:
        assert there_and_back(Exact(places), value) == value
    except ParameterError as error:
        assert "cannot be stored" in str(error)  # noqa: PT017


@settings(deadline=None)
@given(LINES)
def test_json_of_structs(value: list[Line]) -> None:
    assert there_and_back(Json(list[Line]), value) == value


@settings(deadline=None)
@given(st.one_of(st.integers(), st.text(), st.lists(st.integers(), min_size=1), st.floats()))
def test_json_of_another_shape_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError, match="cannot be stored as JSON"):
        there_and_back(Json(list[Line]), value)


@pytest.mark.parametrize("type_", [Uuid(), Instant(), Day(), Minor(), Exact(2), Json(Line)])
def test_nothing_stays_nothing(type_: Any) -> None:
    assert there_and_back(type_, None) is None


@pytest.mark.parametrize("type_", [Uuid(), Instant(), Day(), Minor(), Exact(2), Json(Line)])
def test_postgresql_has_a_type_for_each(type_: Any) -> None:
    dialect: Any = PGDialect()
    assert type_.dialect_impl(dialect).compile(dialect=dialect)


@pytest.mark.parametrize("places", [-1, 13])
def test_places_that_cannot_be_kept_exactly_are_refused(places: int) -> None:
    with pytest.raises(TableDeclarationError, match="0 to 12"):
        Exact(places)


def test_a_long_unfit_value_is_shown_in_part() -> None:
    with pytest.raises(ParameterError) as caught:
        there_and_back(Uuid(), "x" * 10_000)
    assert len(str(caught.value)) < 300


def test_every_constraint_of_a_module_has_a_name() -> None:
    assert set(metadata().naming_convention) >= {"ix", "uq", "ck", "fk", "pk"}


@pytest.fixture(scope="module", autouse=True)
def _close() -> Iterator[None]:
    yield
    CONNECTION.close()
