"""What is asked of a module's tables when it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    DateTime,
    Float,
    ForeignKeyConstraint,
    Interval,
    Numeric,
    Table,
    UniqueConstraint,
)
from sqlalchemy import Uuid as AnyUuid

from tenfold.tables.columns import TENANT, Exact, Instant, Uuid
from tenfold.tables.errors import TableDeclarationError

__all__ = ["check_tables"]

_PLATFORM_PREFIX = "tenfold_"
_MENDS: tuple[tuple[type[Any], str], ...] = (
    (DateTime, f"SQLite would lose its time zone: use columns.{Instant.__name__}"),
    (Interval, "SQLite has none: store whole seconds in an Integer column named for its unit"),
    (Numeric, f"SQLite would make it a float: use columns.money or columns.{Exact.__name__}"),
    (AnyUuid, f"SQLite would store it as text: use columns.{Uuid.__name__}"),
)


def check_tables(module: str, tables: Iterable[Table], *, scoped: bool) -> None:
    """Refuse tables that could mix tenants, or that a database would store inexactly.

    Every problem of every table is named at once.

    Args:
        scoped: whether the module's tables belong to tenants.
    Raises: TableDeclarationError (NOT_DONE).
    """
    found = [problem for table in tables for problem in _problems(table, scoped)]
    if found:
        listed = "\n".join(f"- {problem}" for problem in found)
        raise TableDeclarationError(
            f"The tables of module {module!r} cannot be used, and it was not started:\n{listed}"
        )


def _problems(table: Table, scoped: bool) -> list[str]:
    found = []
    if table.name.lower().startswith(_PLATFORM_PREFIX):
        found.append(f"{table.name}: names with {_PLATFORM_PREFIX!r} are the platform's; rename it")
    if table.schema is not None:
        found.append(f"{table.fullname}: a module has one schema, its own; leave schema= out")
    for column in table.columns:
        mend = next((mend for type_, mend in _MENDS if isinstance(column.type, type_)), None)
        if mend is not None and not isinstance(column.type, Float):
            found.append(f"{table.name}.{column.name}: {type(column.type).__name__}: {mend}")
    found.extend(
        f"{table.name}: the reference over ({', '.join(reference.column_keys)}) is checked at the "
        "commit, which it shares with other units of work; leave initially='DEFERRED' out and "
        "write the row that it points to first"
        for reference in _references(table)
        if (reference.initially or "").upper() == "DEFERRED"
    )
    return found + (_unscoped(table) if scoped else [])


def _references(table: Table) -> list[ForeignKeyConstraint]:
    return [c for c in table.constraints if isinstance(c, ForeignKeyConstraint)]


def _unscoped(table: Table) -> list[str]:
    """What of a table lacks the tenant."""
    if TENANT not in table.c:
        mend = "put tenant() first among its columns, or say scope = 'global' on the module"
        return [f"{table.name}: it has no tenant; {mend} if none of its tables belongs to one"]
    found = []
    key = [column.name for column in table.primary_key]
    if key[:1] != [TENANT]:
        found.append(
            f"{table.name}: its primary key ({', '.join(key) or 'none'}) does not begin with the "
            "tenant; put tenant() first among its columns"
        )
    uniques = [(c.name, c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)]
    indexes = [(index.name, index.columns) for index in table.indexes if index.unique]
    for name, columns in [*uniques, *indexes]:
        names = [column.name for column in columns]
        if TENANT not in names:
            found.append(
                f"{table.name}: {name or 'a unique constraint'} over ({', '.join(names)}) lacks "
                f"the tenant, so one tenant could block another; put {TENANT!r} first in it"
            )
    found.extend(
        f"{table.name}: the reference over ({', '.join(reference.column_keys)}) lacks the "
        f"tenant, so a row could point at another tenant's; put {TENANT!r} first in it"
        for reference in _references(table)
        if TENANT not in reference.column_keys
    )
    return found
