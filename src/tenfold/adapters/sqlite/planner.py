"""Statements said in SQLAlchemy Core, planned once, and run by sqlite3 itself.

A plan is a compiled statement taken apart: the text, the order of its
parameters with their converters, and the class of its rows. Running it needs
no engine, connection or result of SQLAlchemy's.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Executable
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteIdentifierPreparer
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import CompileError, SQLAlchemyError

from tenfold.adapters.sqlite.constraints import constraint_of
from tenfold.adapters.sqlite.plan import Plan, Shape
from tenfold.tables.errors import StatementRefusedError
from tenfold.tables.scoping import (
    Scope,
    ScopedCompiler,
    ScopedPreparer,
    generation_mark,
    is_statement,
)
from tenfold.tables.search import Matches

__all__ = ["Plan", "Planner", "constraint_of"]

_KEPT_SHAPES: Final = 256


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
    supports_statement_cache = True

    def __init__(self, scope: Scope) -> None:
        super().__init__(paramstyle="qmark")
        self.scope = scope


class Planner:
    """Plans the statements of one module. Safe for several threads.

    A statement is found by its identity, so a constant of `tables.py` is
    compiled once; one that was built in a handler costs its construction and
    its cache key, and shares the compiled form of those like it.

    Args:
        module: its name, for errors.
        scoped: whether its tables belong to tenants.
        projections: name of a table to the projection that it belongs to.
    """

    def __init__(self, *, module: str, scoped: bool, projections: Mapping[str, str]) -> None:
        self._scope = Scope(module=module, scoped=scoped, projections=dict(projections))
        self._dialect = _Dialect(self._scope)
        self._plans: dict[int, tuple[weakref.ref[Any], Plan]] = {}
        self._shapes: OrderedDict[Any, tuple[Shape, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def plan(self, statement: Executable) -> Plan:
        """The plan of a statement.

        Raises: StatementRefusedError (NOT_DONE) for one that cannot be scoped
        or is none that Tenfold runs.
        """
        # By weak reference: a statement that is gone takes its plan along, and the identity
        # of a new one is never mistaken for it.
        found = self._plans.get(id(statement))
        if found is not None and found[0]() is statement:
            return found[1]
        plan = self._make(statement)
        key = id(statement)
        self._plans[key] = (weakref.ref(statement, lambda _: self._plans.pop(key, None)), plan)
        return plan

    def _make(self, statement: Any) -> Plan:
        if not is_statement(statement):
            raise StatementRefusedError(
                f"Module {self._scope.module!r} ran {type(statement).__name__} on its database. "
                "Nothing was run. Pass a select, insert, update or delete of SQLAlchemy Core."
            )
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            return Plan(self._compile(statement, None), {})
        with self._lock:
            known = self._shapes.get(cache_key.key)
            if known is not None:
                self._shapes.move_to_end(cache_key.key)
        if known is None:
            shape = self._compile(statement, cache_key)
            with self._lock:
                self._shapes[cache_key.key] = (shape, cache_key.bindparams)
                if len(self._shapes) > _KEPT_SHAPES:
                    self._shapes.popitem(last=False)
            return Plan(shape, {})
        shape, original = known
        # The literals of this statement, in the places of the one that was compiled.
        literals = {old.key: new for old, new in zip(original, cache_key.bindparams, strict=True)}
        return Plan(shape, literals)

    def _compile(self, statement: Any, cache_key: Any) -> Shape:
        try:
            compiled = statement.compile(dialect=self._dialect, cache_key=cache_key)
            return Shape.of(compiled, self._scope, self._dialect)
        except (SQLAlchemyError, CompileError, NotImplementedError) as error:
            raise StatementRefusedError(
                f"A statement of module {self._scope.module!r} cannot be written for SQLite: "
                f"{error}. Nothing was run. Say it in a way that both databases have."
            ) from error
