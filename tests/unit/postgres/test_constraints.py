"""Which declared constraint an error of PostgreSQL's is about."""

from __future__ import annotations

from typing import Any

import pytest
from asyncpg import NotNullViolationError, UniqueViolationError
from sqlalchemy import Column, Integer, Table, UniqueConstraint
from sqlalchemy.dialects.postgresql.base import PGDialect

from tenfold.adapters.postgres.constraints import constraint_of
from tenfold.tables.columns import metadata

_LONG = Table(
    "shipments_of_last_year_by_carrier_and_region",
    metadata(),
    Column("carrier_number", Integer, primary_key=True),
    Column("region_number", Integer, nullable=False),
    UniqueConstraint("carrier_number", "region_number"),
)
_TABLES = {_LONG.name: _LONG}


def error(kind: type[Any], **fields: str) -> Any:
    made = kind("refused")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_name_that_postgresql_cut_is_the_declared_one() -> None:
    (unique,) = (each for each in _LONG.constraints if isinstance(each, UniqueConstraint))
    preparer: Any = PGDialect().identifier_preparer  # type: ignore[no-untyped-call]
    kept = str(preparer.format_constraint(unique)).strip('"')
    assert len(kept) <= 63 < len(str(unique.name))
    broken = error(UniqueViolationError, table_name=_LONG.name, constraint_name=kept)
    assert constraint_of(broken, _TABLES) == unique.name


@pytest.mark.parametrize("table", [_LONG.name, f"{_LONG.name}__3"])
def test_a_column_that_needs_a_value_is_named_whatever_the_generation(table: str) -> None:
    broken = error(NotNullViolationError, table_name=table, column_name="region_number")
    assert constraint_of(broken, _TABLES) == f"{_LONG.name}.region_number"


def test_a_constraint_of_the_platforms_own_is_none_of_the_modules() -> None:
    broken = error(UniqueViolationError, table_name="tenfold_inbox", constraint_name="inbox_key")
    assert constraint_of(broken, _TABLES) is None
