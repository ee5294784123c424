"""Which declared constraint a refusal of PostgreSQL's means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from asyncpg import IntegrityConstraintViolationError, NotNullViolationError

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["constraint_of"]

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
    return name or None


def _text(error: object, field: str) -> str:
    return str(getattr(error, field, None) or "")
