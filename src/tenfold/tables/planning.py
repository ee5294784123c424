"""Statements said in SQLAlchemy Core, planned once, and run by the database's own driver.

A plan is a compiled statement taken apart: the text, the order of its
parameters with their converters, and the class of its rows. Running it needs
no engine, connection or result of SQLAlchemy's.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Executable
from sqlalchemy.exc import CompileError, SQLAlchemyError

from tenfold.tables.errors import StatementRefusedError
from tenfold.tables.plan import Plan, Shape
from tenfold.tables.scoping import Scope, is_statement

__all__ = ["StatementPlanner"]

_KEPT_SHAPES: Final = 256
_PlanT = TypeVar("_PlanT", bound=Plan)


class StatementPlanner(ABC, Generic[_PlanT]):
    """Plans the statements of one module. Safe for several threads.

    A statement is found by its identity, so a constant of `tables.py` is
    compiled once; one that was built in a handler costs its construction and
    its cache key, and shares the compiled form of those like it.

    Args:
        scope: the module, and what its statements may touch.
        dialect: SQLAlchemy's, with a compiler that is a `ScopedCompiler`.
    """

    database: str
    """The name of the database, for errors."""

    def __init__(self, scope: Scope, dialect: Any) -> None:
        self._scope = scope
        self._dialect = dialect
        self._plans: dict[int, tuple[weakref.ref[Any], _PlanT]] = {}
        self._shapes: OrderedDict[Any, tuple[Shape, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def plan(self, statement: Executable) -> _PlanT:
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

    @abstractmethod
    def _shape(self, compiled: Any) -> Shape:
        """Take a compiled statement apart."""

    @abstractmethod
    def _plan(self, shape: Any, literals: dict[str, Any]) -> _PlanT:
        """The plan of a statement with its own literals, by key."""

    def _make(self, statement: Any) -> _PlanT:
        if not is_statement(statement):
            raise StatementRefusedError(
                f"Module {self._scope.module!r} ran {type(statement).__name__} on its database. "
                "Nothing was run. Pass a select, insert, update or delete of SQLAlchemy Core."
            )
        cache_key = statement._generate_cache_key()
        if cache_key is None:
            return self._plan(self._compile(statement, None), {})
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
            return self._plan(shape, {})
        shape, original = known
        # The literals of this statement, in the places of the one that was compiled.
        literals = {old.key: new for old, new in zip(original, cache_key.bindparams, strict=True)}
        return self._plan(shape, literals)

    def _compile(self, statement: Any, cache_key: Any) -> Shape:
        try:
            compiled = statement.compile(dialect=self._dialect, cache_key=cache_key)
            if compiled.literal_execute_params:
                raise StatementRefusedError(
                    f"A statement of module {self._scope.module!r} has a parameter that must be "
                    "written into its text. Nothing was run. Use a literal value or a plain "
                    "bindparam there."
                )
            return self._shape(compiled)
        except (SQLAlchemyError, CompileError, NotImplementedError) as error:
            raise StatementRefusedError(
                f"A statement of module {self._scope.module!r} cannot be written for "
                f"{self.database}: {error}. Nothing was run. Say it in a way that both databases "
                "have."
            ) from error
