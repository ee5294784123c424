"""PostgreSQL as one module sees it: its own schema, and values that behave as on SQLite.

Three things make both databases answer alike:

- Text is stored without a length and with COLLATE "C", so it compares and
  sorts by its bytes, whatever the database's locale. `dialect_for_tables`
  writes it into every column of a CREATE TABLE.
- Whole numbers are 64 bits wide, whatever the column says.
- Every name of a table is written with the module's schema; nothing depends
  on a search_path, which a pooler between may not keep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import types
from sqlalchemy.dialects.postgresql.asyncpg import (
    AsyncpgFloat,
    AsyncpgInteger,
    AsyncpgNumeric,
    AsyncpgString,
    PGDialect_asyncpg,
)
from sqlalchemy.dialects.postgresql.base import (
    PGDDLCompiler,
    PGIdentifierPreparer,
    PGTypeCompiler,
)

from tenfold.adapters.postgres.compiler import StatementCompiler
from tenfold.tables.columns import CheckedInteger, CheckedText
from tenfold.tables.scoping import Scope, ScopedPreparer

__all__ = ["StatementDialect", "TableDialect", "quote"]


def quote(name: str) -> str:
    """An identifier as it stands in a text, always quoted."""
    return '"' + name.replace('"', '""') + '"'


class _Text(CheckedText, AsyncpgString):
    """Text of any length, cast where it is a parameter."""


class _Whole(CheckedInteger, AsyncpgInteger):
    """A whole number of 64 bits, cast where it is a parameter."""


class _Float(AsyncpgFloat):
    """A float, also where PostgreSQL computes a decimal."""

    def result_processor(self, dialect: Any, coltype: object) -> Callable[[Any], Any] | None:
        """To a float."""
        return lambda value: None if value is None else float(value)


class _Numeric(AsyncpgNumeric):
    """A decimal that is computed; those that are stored have a type of ours."""

    def result_processor(self, dialect: Any, coltype: object) -> Callable[[Any], Any] | None:
        """As it comes."""
        return None


class _Types(PGTypeCompiler):
    """The names of types: text has no length, whole numbers have 64 bits."""

    def visit_VARCHAR(self, type_: Any, **kw: Any) -> str:
        """Text; a length is not kept on SQLite either."""
        return "TEXT"

    def visit_CHAR(self, type_: Any, **kw: Any) -> str:
        """Text, which is not padded."""
        return "TEXT"

    def visit_INTEGER(self, type_: Any, **kw: Any) -> str:
        """64 bits, as on SQLite."""
        return "BIGINT"

    def visit_SMALLINT(self, type_: Any, **kw: Any) -> str:
        """64 bits, as on SQLite."""
        return "BIGINT"


class _Tables(PGDDLCompiler):
    """CREATE TABLE with text that sorts by its bytes."""

    def get_column_specification(self, column: Any, **kwargs: Any) -> str:
        """One column, with its collation where it is text."""
        parent: Any = super()
        made: str = parent.get_column_specification(column, **kwargs)
        for narrow in (" SMALLSERIAL", " SERIAL"):
            made = made.replace(narrow, " BIGSERIAL", 1) if narrow in made else made
        type_ = column.type.dialect_impl(self.dialect)
        text = self.dialect.type_compiler_instance.process(column.type)
        if text == "TEXT" and not getattr(type_, "collation", None):
            name = self.preparer.format_column(column)
            made = made.replace(f"{name} TEXT", f'{name} TEXT COLLATE "C"', 1)
        return made


_COLSPECS: Final = {
    **PGDialect_asyncpg.colspecs,
    types.String: _Text,
    types.Integer: _Whole,
    types.SmallInteger: _Whole,
    types.BigInteger: _Whole,
    types.Float: _Float,
    types.Numeric: _Numeric,
    # As text with a check, as on SQLite; a type of PostgreSQL's would need migrations of its own.
    types.Enum: types.Enum,
}


class TableDialect(PGDialect_asyncpg):
    """PostgreSQL for statements that make tables: those of projections, and migrations."""

    type_compiler_cls = _Types
    ddl_compiler = _Tables
    colspecs = _COLSPECS
    supports_native_enum = False
    supports_statement_cache = True


class _Preparer(ScopedPreparer, PGIdentifierPreparer):
    """PostgreSQL's identifiers, with the physical names of projections and the schema."""

    def format_table(self, table: Any, use_schema: bool = True, name: Any = None, **kw: Any) -> str:
        """The table of an INSERT, with the module's schema."""
        made = super().format_table(table, use_schema=use_schema, name=name, **kw)
        if name is not None:
            return made
        dialect: Any = self.dialect
        if table.name in dialect.scope.projections:
            return f"{quote(dialect.schema)}.{made}"
        return f"{quote(dialect.schema)}.{quote(table.name)} AS {self.quote(table.name)}"


class StatementDialect(TableDialect):
    """PostgreSQL for a module's statements.

    Args:
        scope: the module, and what its statements may touch.
        schema: where its tables are.
    """

    statement_compiler = StatementCompiler
    preparer = _Preparer  # type: ignore[assignment]
    supports_statement_cache = True

    def __init__(self, scope: Scope, schema: str) -> None:
        parent: Any = super()
        parent.__init__()
        self.scope = scope
        self.schema = schema
