"""A module's statements, written for SQLite. See `tenfold.tables.planning`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import types
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteIdentifierPreparer
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from tenfold.adapters.sqlite.constraints import constraint_of
from tenfold.adapters.sqlite.plan import Plan, shape_of
from tenfold.tables.columns import CheckedInteger, CheckedText
from tenfold.tables.plan import Shape
from tenfold.tables.planning import StatementPlanner
from tenfold.tables.scoping import (
    Scope,
    ScopedCompiler,
    ScopedPreparer,
    generation_mark,
)
from tenfold.tables.search import Matches

__all__ = ["Plan", "Planner", "constraint_of"]


class _Compiler(ScopedCompiler, SQLiteCompiler):
    """SQLite's compiler, confined to one tenant."""

    def visit_tenfold_matches(self, element: Matches, **kw: Any) -> str:
        """Rows by key, of the rows of the index that match."""
        key = ", ".join(self.process(column, **kw) for column in element.key_columns)
        names = ", ".join(self.preparer.quote(column.name) for column in element.key_columns)
        index = self._physical_index(element, "")
        rows = self._physical_index(element, "_rows")
        return (
            f"({key}) IN (SELECT {names} FROM {rows} WHERE doc IN (SELECT rowid FROM {index} "
            f"WHERE {index} MATCH {self.process(element.text, **kw)}))"
        )

    def _physical_index(self, element: Matches, suffix: str) -> str:
        name = element.index_name
        projection = self._scope.projections.get(element.table_name)
        if projection is not None:
            name = f"{name}__{generation_mark(projection)}"
        return self.preparer.quote_identifier(name + suffix)


class _Preparer(ScopedPreparer, SQLiteIdentifierPreparer):
    """SQLite's identifiers, with the physical names of projections."""


class _Dialect(SQLiteDialect_pysqlite):
    """SQLite as one module sees it."""

    statement_compiler = _Compiler
    preparer = _Preparer
    colspecs = {  # noqa: RUF012
        **SQLiteDialect_pysqlite.colspecs,
        types.String: CheckedText,
        types.Integer: CheckedInteger,
        types.Enum: types.Enum,
    }
    supports_statement_cache = True

    def __init__(self, scope: Scope) -> None:
        super().__init__(paramstyle="qmark")
        self.scope = scope


class Planner(StatementPlanner[Plan]):
    """Plans the statements of one module. Safe for several threads.

    Args:
        module: its name, for errors.
        scoped: whether its tables belong to tenants.
        projections: name of a table to the projection that it belongs to.
    """

    database = "SQLite"

    def __init__(self, *, module: str, scoped: bool, projections: Mapping[str, str]) -> None:
        scope = Scope(module=module, scoped=scoped, projections=dict(projections))
        super().__init__(scope, _Dialect(scope))

    def _shape(self, compiled: Any) -> Shape:
        return shape_of(compiled, self._scope, self._dialect)

    def _plan(self, shape: Shape, literals: dict[str, Any]) -> Plan:
        return Plan(shape, literals)
