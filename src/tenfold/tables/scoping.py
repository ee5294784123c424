"""Statements seen by one tenant: what a compiler adds to each of them.

Every table that is read becomes a subselect of the tenant's rows; an update or
delete gets the condition, an insert the value. Rewriting the statement's tree
instead leaked on UPDATE … FROM; here the place where a table's name is written
is the only one there is. What cannot be scoped is refused.

The same compiler gives a projection's tables their physical names, one set for
each generation: the text has a mark in their place, filled in at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import BindParameter, Column, Delete, Insert, Table, Text, Update
from sqlalchemy.sql.compiler import IdentifierPreparer, SQLCompiler
from sqlalchemy.sql.expression import CompoundSelect, Select

from tenfold.contracts.structs import Struct
from tenfold.tables.columns import TENANT
from tenfold.tables.errors import StatementRefusedError
from tenfold.tables.upsert import Incoming, OnConflict

__all__ = [
    "GENERATION_MARK",
    "TENANT_PARAMETER",
    "Scope",
    "ScopedCompiler",
    "ScopedPreparer",
    "generation_mark",
    "is_statement",
    "physical_name",
    "refuse_statement",
]

TENANT_PARAMETER: Final = "tenfold_tenant"
"""The name of the parameter that holds the tenant in a compiled statement."""
GENERATION_MARK: Final = re.compile(r"\[TENFOLD_GENERATION (\w+)\]")
_TENANT_BIND: Final[BindParameter[str]] = BindParameter(
    TENANT_PARAMETER, type_=Text(), required=True
)
_PLATFORM_PREFIX: Final = "tenfold_"
_PLAIN_OPERATOR: Final = re.compile(r"[^\w\s();,'\"]{1,4}|[A-Za-z]{2,12}")
_SQLALCHEMYS_OWN: Final = ("*", "1", "'%'")
"""The texts that SQLAlchemy writes itself: of `select *`, `exists`, `startswith` and its like."""
_ADVICE: Final = "Say it with SQLAlchemy Core's own constructs on the module's declared tables."

if TYPE_CHECKING:
    _Compiler = SQLCompiler
    _Preparer = IdentifierPreparer
else:
    _Compiler = object
    _Preparer = object


class Scope(Struct):
    """What a module's statements may touch.

    `projections` maps the name of a table to the projection that it belongs to.
    """

    module: str
    scoped: bool
    projections: Mapping[str, str]


def generation_mark(projection: str) -> str:
    """What stands in a compiled text for a projection's generation."""
    return f"[TENFOLD_GENERATION {projection}]"


def physical_name(table: str, generation: int) -> str:
    """The name of a projection's table, or of its index, in one generation."""
    return f"{table}__{generation}"


def refuse_statement(scope: Scope, what: str, mend: str = _ADVICE) -> StatementRefusedError:
    """The error for a statement that cannot be run for one tenant."""
    return StatementRefusedError(
        f"A statement of module {scope.module!r} {what}, which cannot be confined to one tenant "
        f"or to the module's own tables. Nothing was run. {mend}"
    )


class ScopedPreparer(_Preparer):
    """Writes the table of an INSERT under its physical name. Mixed into a dialect's preparer."""

    def format_table(self, table: Any, use_schema: bool = True, name: Any = None, **kw: Any) -> str:
        """A projection's table gets its mark, and its own name as an alias."""
        scope: Scope | None = getattr(self.dialect, "scope", None)
        if scope is not None and name is None and table.name in scope.projections:
            mark = generation_mark(scope.projections[table.name])
            return f"{self.quote_identifier(table.name + '__' + mark)} AS {self.quote(table.name)}"
        return super().format_table(table, use_schema=use_schema, name=name, **kw)


class ScopedCompiler(_Compiler):
    """Adds the tenant to whatever is compiled. Mixed into a dialect's own compiler.

    The dialect carries a `Scope` as its attribute `scope`.
    """

    @property
    def _scope(self) -> Scope:
        scope: Scope = self.dialect.scope  # type: ignore[attr-defined]
        return scope

    # -- tables

    def _own_table(self, table: Any) -> Table:
        scope = self._scope
        if not isinstance(table, Table):
            raise refuse_statement(scope, f"names {table!s}, which is no declared table")
        if table.name.lower().startswith(_PLATFORM_PREFIX):
            raise refuse_statement(scope, f"names the platform's own table {table.name!r}")
        if table.schema is not None:
            raise refuse_statement(scope, f"names a table of another schema, {table.fullname!r}")
        if scope.scoped and TENANT not in table.c:
            raise refuse_statement(
                scope,
                f"names the table {table.name!r}, which has no tenant",
                "Put tenant() first among its columns.",
            )
        return table

    def _physical(self, table: Table) -> str:
        projection = self._scope.projections.get(table.name)
        if projection is None:
            return self.preparer.quote(table.name)
        return self.preparer.quote_identifier(f"{table.name}__{generation_mark(projection)}")

    def visit_table(  # type: ignore[override]
        self,
        table: Any,
        asfrom: bool = False,
        iscrud: bool = False,
        ashint: bool = False,
        fromhints: Any = None,
        from_linter: Any = None,
        enclosing_alias: Any = None,
        within_tstring: bool = False,
        **kw: Any,
    ) -> str:
        """A table that is read, as a subselect of the tenant's rows; a written one as it is."""
        if within_tstring or fromhints:
            raise refuse_statement(self._scope, "has a hint or a template string")
        if not asfrom:
            return ""
        own = self._own_table(table)
        if from_linter:
            from_linter.froms[own] = own.fullname
        physical, name = self._physical(own), self.preparer.quote(own.name)
        aliased = enclosing_alias is not None and enclosing_alias.element is own
        suffix = "" if aliased else f" AS {name}"
        if iscrud or not self._scope.scoped:
            return physical if physical == name else physical + suffix
        column = self.preparer.format_column(own.c[TENANT])
        return f"(SELECT * FROM {physical} WHERE {column} = {self._tenant(kw)}){suffix}"

    def _tenant(self, kw: Mapping[str, Any]) -> str:
        passed = {"visited_bindparam", "accumulate_bind_names"} & kw.keys()
        return str(self.process(_TENANT_BIND, **{key: kw[key] for key in passed}))

    # -- statements that write

    def _written(self, statement: Any, visiting_cte: Any, verb: str) -> Table:
        if visiting_cte is not None or self.stack:
            raise refuse_statement(self._scope, f"has {verb} inside another statement")
        return self._own_table(statement.table)

    def _refuse_tenant(self, names: Iterable[Any]) -> None:
        if not self._scope.scoped:
            return
        for name in names:
            if (name if isinstance(name, str) else getattr(name, "name", None)) == TENANT:
                raise refuse_statement(
                    self._scope, "sets the tenant", "Leave it out: the platform fills it in."
                )

    def visit_insert(self, insert_stmt: Any, visiting_cte: Any = None, **kw: Any) -> str:  # type: ignore[override]
        """An insert, with the tenant as a further value."""
        table = self._written(insert_stmt, visiting_cte, "INSERT")
        if insert_stmt._select_names or insert_stmt.select is not None:
            raise refuse_statement(
                self._scope, "is INSERT … SELECT", "Read the rows, then insert them."
            )
        conflict = insert_stmt._post_values_clause
        if conflict is not None and not isinstance(conflict, OnConflict):
            raise refuse_statement(
                self._scope, "has an ON CONFLICT of one database", "Use tenfold.tables.upsert."
            )
        parent: Any = super()
        return str(parent.visit_insert(self._with_tenant(insert_stmt, table), **kw))

    def _with_tenant(self, statement: Insert, table: Table) -> Insert:
        tenant = {table.c[TENANT]: _TENANT_BIND} if self._scope.scoped else {}
        many: Any = statement._multi_values
        if many:
            rows = [row for group in many for row in group]
            for row in rows:
                self._refuse_tenant(row)
            copy = statement._clone()
            copy._multi_values = ([{**row, **tenant} for row in rows],)
            return copy
        given: Mapping[Any, Any] = statement._values or {}
        self._refuse_tenant(given)
        if not given:
            statement = statement.values({**_every_column(table, bool(tenant)), **tenant})
        elif tenant:
            statement = statement.values(tenant)
        # Inline, or SQLAlchemy would append a RETURNING of its own for a key left to the database.
        return statement.inline()

    def visit_tenfold_on_conflict(self, conflict: OnConflict, **kw: Any) -> str:
        """ON CONFLICT, on the tenant's own rows."""
        quote = self.preparer.quote
        on = [name for name in conflict.on if name != TENANT]
        target = ", ".join(quote(name) for name in ([TENANT] if self._scope.scoped else []) + on)
        if not conflict.names:
            return f"ON CONFLICT ({target}) DO NOTHING"
        kw.pop("visited_bindparam", None)
        changes = ", ".join(
            f"{quote(name)} = {self.process(value.self_group(), **kw)}"
            for name, value in zip(conflict.names, conflict.values, strict=True)
        )
        where = "" if conflict.where is None else f" WHERE {self.process(conflict.where, **kw)}"
        return f"ON CONFLICT ({target}) DO UPDATE SET {changes}{where}"

    def visit_tenfold_incoming(self, element: Incoming[Any], **kw: Any) -> str:
        """The value that the insert brought."""
        return f"excluded.{self.preparer.quote(element.name)}"

    def visit_update(self, update_stmt: Update, visiting_cte: Any = None, **kw: Any) -> str:
        """An update of the tenant's rows."""
        table = self._written(update_stmt, visiting_cte, "UPDATE")
        self._refuse_tenant(update_stmt._values or ())
        if not update_stmt._values:
            raise refuse_statement(
                self._scope, f"updates {table.name!r} without values()", "Say what it sets."
            )
        if self._scope.scoped:
            update_stmt = update_stmt.where(table.c[TENANT] == _TENANT_BIND)
        return super().visit_update(update_stmt, **kw)

    def visit_delete(self, delete_stmt: Delete, visiting_cte: Any = None, **kw: Any) -> str:
        """A deletion of the tenant's rows."""
        table = self._written(delete_stmt, visiting_cte, "DELETE")
        if self._scope.scoped:
            delete_stmt = delete_stmt.where(table.c[TENANT] == _TENANT_BIND)
        parent: Any = super()
        return str(parent.visit_delete(delete_stmt, **kw))

    # -- what is refused, since nobody can see what it reads

    def visit_textclause(self, textclause: Any, *args: Any, **kw: Any) -> str:
        """Text is refused, but for the star that SQLAlchemy itself writes."""
        if textclause.text != "*":
            raise refuse_statement(self._scope, f"has text({textclause.text[:60]!r})")
        return "*"

    def visit_textual_select(self, taf: Any, *args: Any, **kw: Any) -> str:
        """Refused: a SELECT that is text."""
        raise refuse_statement(self._scope, "is text")

    def visit_tstring(self, tstring: Any, *args: Any, **kw: Any) -> str:
        """Refused: a template string."""
        raise refuse_statement(self._scope, "has a template string")

    def visit_tstring_text(self, element: Any, **kw: Any) -> str:
        """Refused: a part of a template string."""
        return self.visit_tstring(element)

    def visit_column(self, column: Any, *args: Any, **kw: Any) -> str:
        """A column; a literal one is text, and refused."""
        if column.is_literal and column.name not in _SQLALCHEMYS_OWN:
            what = f"has literal_column({column.name[:60]!r})"
            raise refuse_statement(self._scope, what, "Use literal() or a column.")
        return str(super().visit_column(column, *args, **kw))

    def visit_custom_op_binary(self, element: Any, operator: Any, **kw: Any) -> str:
        """An operator of the author's own: one word or sign."""
        if not _PLAIN_OPERATOR.fullmatch(operator.opstring):
            raise refuse_statement(self._scope, f"has op({operator.opstring[:60]!r})")
        parent: Any = super()
        return str(parent.visit_custom_op_binary(element, operator, **kw))

    def get_statement_hint_text(self, hint_texts: Any) -> str:
        """Refused: a hint is text."""
        raise refuse_statement(self._scope, "has a hint")

    def _setup_crud_hints(self, stmt: Any, table_text: str) -> Any:
        raise refuse_statement(self._scope, "has a hint")


def _every_column(table: Table, scoped: bool) -> dict[Column[Any], BindParameter[Any]]:
    """A parameter for each column that the database does not fill by itself."""
    return {
        column: BindParameter(column.key, type_=column.type, required=True)
        for column in table.c
        if not (scoped and column.name == TENANT)
        and column.server_default is None
        and column.computed is None
    }


def is_statement(statement: object) -> bool:
    """Whether this is a select, insert, update or delete."""
    return isinstance(statement, Select | CompoundSelect | Insert | Update | Delete)
