"""Which declared constraint a refusal of SQLite's means."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Index, Table, UniqueConstraint

__all__ = ["constraint_of"]

_FAILED: Final = re.compile(r"(UNIQUE|CHECK|NOT NULL) constraint failed: (.+)", re.DOTALL)
_GENERATION: Final = re.compile(r"__\d+$")


def constraint_of(error: sqlite3.IntegrityError, tables: Mapping[str, Table]) -> str | None:
    """The name of the declared constraint that an error of SQLite's is about.

    A column that may not be null is named `table.column`. None for a foreign
    key, which SQLite does not name, and for what `tables`, by name, does not have.
    """
    found = _FAILED.match(str(error))
    if found is None:
        return None
    kind, what = found[1], found[2].strip()
    if kind == "CHECK":
        return _GENERATION.sub("", what)
    if kind == "NOT NULL":
        return ".".join(_GENERATION.sub("", part) for part in what.split("."))
    if what.startswith("index "):
        return _GENERATION.sub("", what[len("index ") :].strip("'\""))
    places = [place.strip().rpartition(".") for place in what.split(",")]
    table = tables.get(_GENERATION.sub("", places[0][0]))
    if table is None:
        return None
    return _unique_over(table, {column for _, _, column in places})


def _unique_over(table: Table, columns: set[str]) -> str | None:
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint) and set(constraint.columns.keys()) == columns:
            return _name(constraint.name)
    for index in table.indexes:
        if isinstance(index, Index) and index.unique and set(index.columns.keys()) == columns:
            return _name(index.name)
    key = table.primary_key
    return _name(key.name) if set(key.columns.keys()) == columns else None


def _name(name: object) -> str | None:
    return None if name is None else str(name)
