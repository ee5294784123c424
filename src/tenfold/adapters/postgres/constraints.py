"""Which declared constraint a refusal of PostgreSQL's means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from asyncpg import IntegrityConstraintViolationError, NotNullViolationError
from sqlalchemy.dialects.postgresql.base import PGDialect

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["constraint_of"]

_LONGEST: Final = 63
_GENERATION: Final = re.compile(r"__\d+$")


def constraint_of(
    error: IntegrityConstraintViolationError, tables: Mapping[str, Table]
) -> str | None:
    """The name of the declared constraint that an error of PostgreSQL's is about.

    A column that may not be null is named `table.column`. None where the
    error names none, or the table is none of `tables`, by name.
    """
    table = _GENERATION.sub("", _text(error, "table_name"))
    if table not in tables:
        return None
    if isinstance(error, NotNullViolationError):
        return f"{table}.{_text(error, 'column_name')}"
    name = _GENERATION.sub("", _text(error, "constraint_name"))
    return _declared(tables[table]).get(name, name) or None


def _declared(table: Table) -> dict[str, str]:
    """Names that are longer than PostgreSQL keeps them, by what is kept."""
    parts: list[Any] = [*table.constraints, *table.indexes]
    long = [part for part in parts if len(str(part.name or "")) > _LONGEST]
    if not long:
        return {}
    dialect: Any = PGDialect
    write = dialect().identifier_preparer.format_constraint
    return {str(write(part)).strip('"'): str(part.name) for part in long}


def _text(error: object, field: str) -> str:
    return str(getattr(error, field, None) or "")
