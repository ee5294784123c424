"""Full-text search over text columns, said once for both databases.

    PRODUCT_SEARCH = SearchIndex("products_search", PRODUCTS.c.name)
    FIND = select(PRODUCTS).where(matches(PRODUCTS.c.name, bindparam("search")))

What people type is taken as words: each must occur, as a word or the beginning
of one, whatever its case and accents. Nothing that they type is syntax.

On PostgreSQL each column has a GIN index over its words, taken apart by a
function of our own (`tenfold.tables.words`), by the same rules.

On SQLite the index is an FTS5 table without content of its own, kept by
triggers. Its rows have numbers of their own, in `{index}_rows`: SQLite may
renumber the rows of the product's table when the file is vacuumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import Alias, BindParameter, Column, ColumnElement, Table, Text, types
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.visitors import InternalTraversal

from tenfold.tables.errors import ParameterError, TableDeclarationError
from tenfold.tables.words import WORDS_FUNCTION, folded_words, words_function_sql

__all__ = [
    "Matches",
    "SearchIndex",
    "create_search_sql",
    "drop_search_sql",
    "fts5_query",
    "matches",
    "search_indexes",
    "ts_query",
]

_INFO: Final = "tenfold_search"
_WORD: Final = re.compile(r"[^\W_]+")
_MOST_WORDS: Final = 16
_NOTHING: Final = '""'
_NO_WORD: Final = "'!'"


class SearchIndex:
    """A full-text index over text columns of one table, declared beside it.

    Made by a migration (`create_search_index`); for a projection's table, with
    the table. Its rows are found by the table's primary key.

    Args:
        name: its name in the database.
        columns: one or more text columns of one table.
    """

    def __init__(self, name: str, *columns: Column[Any]) -> None:
        tables = {column.table for column in columns}
        if len(tables) != 1 or not all(isinstance(c.type, types.String) for c in columns):
            raise TableDeclarationError(
                f"The search index {name!r} must be over text columns of one table; it is over "
                f"{', '.join(map(str, columns)) or 'nothing'}."
            )
        self.name = name
        self.table: Table = columns[0].table
        self.columns = tuple(column.name for column in columns)
        self.key = tuple(column.name for column in self.table.primary_key)
        if not self.key:
            raise TableDeclarationError(
                f"The search index {name!r} needs a primary key on {self.table.name!r}, by which "
                "rows are found again. Declare one."
            )
        self.table.info.setdefault(_INFO, []).append(self)


def search_indexes(table: Table) -> list[SearchIndex]:
    """The search indexes declared on a table."""
    return list(table.info.get(_INFO, ()))


class SearchText(types.TypeDecorator[str]):
    """What a person typed, on its way into the database's query language.

    Args:
        column: the one column of an index of several that is meant, or empty.
    """

    impl = Text
    cache_ok = True

    def __init__(self, column: str = "") -> None:
        self.column = column
        super().__init__()

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any] | None:
        """To the query language of the database."""
        make = ts_query if dialect.name == "postgresql" else fts5_query
        filtered = f'"{self.column}" : ' if self.column and dialect.name != "postgresql" else ""

        def process(value: Any) -> Any:
            if not isinstance(value, str):
                raise ParameterError(
                    f"A search was given {type(value).__name__}, not text. Nothing was run. "
                    "Pass a str; without one, use a statement that does not search."
                )
            made = make(value)
            return f"{filtered}({made})" if filtered and made != _NOTHING else made

        return process


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))[:_MOST_WORDS]


def fts5_query(text: str) -> str:
    """What FTS5 is asked for: every word, as the beginning of a word; nothing for no words.

    A word is quoted, so that none can be an operator, a column or a syntax error.
    """
    return " AND ".join(f'"{word}"*' for word in _words(text)) or _NOTHING


def ts_query(text: str) -> str:
    """The same in the form of PostgreSQL's type `tsquery`."""
    return " & ".join(f"'{word}':*" for word in folded_words(text)[:_MOST_WORDS]) or _NO_WORD


class Matches(ColumnElement[bool]):
    """True for rows whose column has every word of a text. See `matches`."""

    __visit_name__ = "tenfold_matches"
    _traverse_internals = [  # noqa: RUF012
        ("index_name", InternalTraversal.dp_string),
        ("column", InternalTraversal.dp_clauseelement),
        ("key_columns", InternalTraversal.dp_clauseelement_list),
        ("text", InternalTraversal.dp_clauseelement),
    ]

    def __init__(
        self,
        index: SearchIndex,
        column: ColumnElement[Any],
        key: Sequence[ColumnElement[Any]],
        text: BindParameter[Any],
    ) -> None:
        self.index_name = index.name
        self.table_name = index.table.name
        self.column = column
        self.key_columns = list(key)
        self.text = text
        self.type = types.Boolean()

    def self_group(self, against: Any = None) -> Matches:
        """As it is: SQLAlchemy would append `= 1`, which hides the key from SQLite's planner."""
        return self


def matches(column: Any, text: BindParameter[Any] | str) -> Matches:
    """True for rows whose column has every word of a text, or words that begin with it.

    Text without any word matches nothing.

    Args:
        column: a column of a `SearchIndex`, or of an alias of its table.
        text: a `bindparam`, or the text itself.
    """
    source = column.table
    table = source.element if isinstance(source, Alias) else source
    found = search_indexes(table) if isinstance(table, Table) else []
    index = next((each for each in found if column.name in each.columns), None)
    if index is None:
        raise TableDeclarationError(
            f"matches({column}) needs a search index, and none is declared over this column. "
            f"Declare SearchIndex('{getattr(table, 'name', '')}_search', ...) beside the table."
        )
    typed = SearchText(column.name if len(index.columns) > 1 else "")
    if isinstance(text, BindParameter):
        bind = text._clone(maintain_key=True)
        bind.type = typed
    else:
        bind = BindParameter(None, text, type_=typed, unique=True)
    return Matches(index, column, [source.c[name] for name in index.key], bind)


def create_search_sql(
    name: str,
    table: str,
    key: Sequence[str],
    columns: Sequence[str],
    dialect: str,
    schema: str | None = None,
) -> list[str]:
    """The statements that make a search index and fill it from the rows that are there.

    Args:
        schema: where the table is, on PostgreSQL; None where the search_path says it.
    """
    if dialect == "postgresql":
        within = "" if schema is None else f"{_q(schema)}."
        indexes = [
            f"CREATE INDEX {_q(f'{name}_{column}')} ON {within}{_q(table)} "
            f"USING gin (array_to_tsvector({within}{WORDS_FUNCTION}({_q(column)})))"
            for column in columns
        ]
        return [words_function_sql(within), *indexes]
    rows, listed = _q(name + "_rows"), ", ".join(map(_q, columns))
    keys = ", ".join(map(_q, key))
    fts = _q(name)

    def values(row: str, names: Sequence[str]) -> str:
        return ", ".join(f"{row}.{_q(column)}" for column in names)

    def where(row: str) -> str:
        return " AND ".join(f"{_q(column)} = {row}.{_q(column)}" for column in key)

    add = f"INSERT INTO {rows} ({keys}) VALUES ({values('new', key)}); "
    enter = (
        f"INSERT INTO {fts} (rowid, {listed}) "
        f"SELECT doc, {values('new', columns)} FROM {rows} WHERE {where('new')}; "
    )
    remove = (
        f"INSERT INTO {fts} ({fts}, rowid, {listed}) "
        f"SELECT 'delete', doc, {values('old', columns)} FROM {rows} WHERE {where('old')}; "
    )
    forget = f"DELETE FROM {rows} WHERE {where('old')}; "
    changed = ", ".join(map(_q, dict.fromkeys([*key, *columns])))
    joined = " AND ".join(f"r.{_q(column)} = t.{_q(column)}" for column in key)
    make = f"CREATE TRIGGER {{}} AFTER {{}} ON {_q(table)} BEGIN {{}}END"
    options = "content='', tokenize='unicode61 remove_diacritics 2', prefix='2 3'"
    fill = f"SELECT r.doc, {values('t', columns)} FROM {_q(table)} t JOIN {rows} r ON {joined}"
    return [
        f"CREATE TABLE {rows} (doc INTEGER PRIMARY KEY, {keys}, UNIQUE ({keys}))",
        f"CREATE VIRTUAL TABLE {fts} USING fts5({listed}, {options})",
        f"INSERT INTO {rows} ({keys}) SELECT {keys} FROM {_q(table)}",
        f"INSERT INTO {fts} (rowid, {listed}) {fill}",
        make.format(_q(name + "_insert"), "INSERT", add + enter),
        make.format(_q(name + "_delete"), "DELETE", remove + forget),
        make.format(_q(name + "_update"), f"UPDATE OF {changed}", remove + forget + add + enter),
    ]


def drop_search_sql(
    name: str, columns: Sequence[str], dialect: str, schema: str | None = None
) -> list[str]:
    """The statements that drop a search index, whether or not its table is still there."""
    if dialect == "postgresql":
        within = "" if schema is None else f"{_q(schema)}."
        return [f"DROP INDEX IF EXISTS {within}{_q(f'{name}_{column}')}" for column in columns]
    events = ("insert", "delete", "update")
    triggers = [f"DROP TRIGGER IF EXISTS {_q(f'{name}_{event}')}" for event in events]
    tables = [f"DROP TABLE IF EXISTS {_q(each)}" for each in (name, name + "_rows")]
    return [*triggers, *tables]


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
