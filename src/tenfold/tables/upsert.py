"""Insert, or change the row that is there: one spelling for both databases.

ADD_SALE = upsert(
    SALES,
    on=[SALES.c.day],
    set={SALES.c.orders: SALES.c.orders + incoming(SALES.c.orders)},
)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import ClauseElement, Column, ColumnElement, Insert, Table, UniqueConstraint, insert
from sqlalchemy.sql import coercions, roles
from sqlalchemy.sql.base import SyntaxExtension
from sqlalchemy.sql.visitors import InternalTraversal

from tenfold.tables.columns import TENANT
from tenfold.tables.errors import TableDeclarationError

__all__ = ["Incoming", "OnConflict", "incoming", "upsert"]

_T = TypeVar("_T")


class Incoming(ColumnElement[_T]):
    """The value that the insert brought, inside `set` and `where` of an upsert."""

    __visit_name__ = "tenfold_incoming"
    _traverse_internals = [  # noqa: RUF012
        ("name", InternalTraversal.dp_string),
        ("type", InternalTraversal.dp_type),
    ]

    def __init__(self, column: Column[_T]) -> None:
        self.name = column.name
        self.type = column.type


class OnConflict(SyntaxExtension, ClauseElement):
    """What an insert does where a row with the same `on` is there. See `upsert`."""

    __visit_name__ = "tenfold_on_conflict"
    _traverse_internals = [  # noqa: RUF012
        ("on", InternalTraversal.dp_string_list),
        ("names", InternalTraversal.dp_string_list),
        ("values", InternalTraversal.dp_clauseelement_list),
        ("where", InternalTraversal.dp_clauseelement),
    ]

    def __init__(
        self,
        on: Sequence[str],
        names: Sequence[str],
        values: Sequence[ColumnElement[Any]],
        where: ColumnElement[bool] | None,
    ) -> None:
        self.on = list(on)
        self.names = list(names)
        self.values = list(values)
        self.where = where

    def apply_to_insert(self, insert_stmt: Any) -> None:
        """Take the place behind the values."""
        insert_stmt.apply_syntax_extension_point(lambda _: [self], "post_values")


def incoming(column: Column[_T]) -> Incoming[_T]:
    """The value that the insert brought for a column, inside `set` and `where` of an upsert."""
    return Incoming(column)


def upsert(
    table: Table,
    *,
    on: Sequence[Column[Any]],
    set: Mapping[Column[Any], Any] | None = None,
    where: ColumnElement[bool] | None = None,
) -> Insert:
    """An insert that changes the row which is there, or leaves it alone.

    Args:
        table: inserted with a parameter for each column, or with what
            `.values(...)` says afterwards.
        on: the columns of one unique constraint or of the primary key, without
            the tenant, which the platform adds.
        set: what an existing row's columns become; its own value is the column,
            the inserted one `incoming(column)`. None leaves the row as it is.
        where: only existing rows for which this holds are changed.
    Raises: TableDeclarationError where no constraint has just these columns.
    """
    names = [column.name for column in on]
    _check(table, names)
    changes = dict(set or {})
    if TENANT in (column.name for column in changes):
        raise TableDeclarationError(
            f"An upsert into {table.name!r} sets the tenant. Leave it out: the platform does it."
        )
    values = [
        coercions.expect(roles.ExpressionElementRole, value, type_=column.type)
        for column, value in changes.items()
    ]
    extension = OnConflict(names, [column.name for column in changes], values, where)
    return insert(table).ext(extension)


def _check(table: Table, names: Sequence[str]) -> None:
    wanted = {*names} - {TENANT}
    known: list[set[str]] = [{column.name for column in table.primary_key}]
    known.extend(
        {column.name for column in constraint.columns}
        for constraint in table.constraints
        if isinstance(constraint, UniqueConstraint)
    )
    known.extend({c.name for c in index.columns} for index in table.indexes if index.unique)
    if wanted not in [columns - {TENANT} for columns in known]:
        choices = "; ".join(", ".join(sorted(columns - {TENANT})) for columns in known)
        raise TableDeclarationError(
            f"An upsert into {table.name!r} is on ({', '.join(sorted(wanted))}), which no primary "
            f"key or unique constraint of it has. It can be on: {choices}."
        )
