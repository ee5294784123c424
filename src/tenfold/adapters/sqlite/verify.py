"""What a module's file has, and what its tables would be if they were made now, in memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from tenfold.tables.drift import Drift, decide_drift
from tenfold.tables.search import create_search_sql, search_indexes

__all__ = ["verify_file"]

_NOT_THE_PRODUCTS: Final = re.compile(r"tenfold_|sqlite_|alembic_version$")
_SEARCH_PARTS: Final = ("", "_data", "_idx", "_docsize", "_config", "_content", "_rows")
_TABLES: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
_COLUMNS: Final = 'SELECT name, type, "notnull", dflt_value, pk FROM pragma_table_info(?)'
_INDEXES: Final = 'SELECT name, "unique", origin, partial FROM pragma_index_list(?)'
_INDEXED: Final = 'SELECT name, "desc" FROM pragma_index_xinfo(?) WHERE key ORDER BY seqno'
_WHERE: Final = "SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?"
_REFERENCES: Final = """
SELECT group_concat("from"), "table", group_concat("to"), on_update, on_delete
FROM (SELECT * FROM pragma_foreign_key_list(?) ORDER BY id, seq) GROUP BY id
"""


def verify_file(
    file: Path, module: str, tables: Iterable[Table], projected: Iterable[str]
) -> list[Drift]:
    """The differences between a module's file and its declared tables. Changes nothing.

    Args:
        tables: its own, which migrations make.
        projected: the names of its projections' tables and search indexes, which are not
            looked at.
    """
    tables = list(tables)
    searches = [search.name for table in tables for search in search_indexes(table)]
    with closing(sqlite3.connect(":memory:")) as memory:
        for text in _texts(tables):
            memory.execute(text)
        declared = _facts(memory, searches)
    found: dict[tuple[str, str], str] = {}
    if file.exists():
        with closing(sqlite3.connect(file)) as connection:
            found = _facts(connection, searches)
    names = "|".join(map(re.escape, projected)) or "(?!)"
    parts = "|".join(part for part in _SEARCH_PARTS if part)
    generation = re.compile(rf"(?:{names})__\d+(?:{parts})?")
    ours = {k: v for k, v in found.items() if not generation.fullmatch(k[1].partition(".")[0])}
    return decide_drift(module, declared, ours)


def _texts(tables: Iterable[Table]) -> list[str]:
    dialect = SQLiteDialect_pysqlite()
    texts: list[str] = []
    for table in tables:
        made: list[Any] = [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
        texts += [str(statement.compile(dialect=dialect)) for statement in made]
        for search in search_indexes(table):
            texts += create_search_sql(
                search.name, table.name, search.key, search.columns, "sqlite"
            )
    return texts


def _facts(connection: sqlite3.Connection, searches: list[str]) -> dict[tuple[str, str], str]:
    """Tables, columns, keys, indexes, references, checks; of a search index that it is there."""
    parts = {f"{search}{part}" for search in searches for part in _SEARCH_PARTS}
    facts: dict[tuple[str, str], str] = {}
    for table, sql in connection.execute(_TABLES).fetchall():
        if _NOT_THE_PRODUCTS.match(table):
            continue
        if table in parts:
            if table in searches:
                facts["search index", table] = "exists"
            continue
        facts["table", table] = "exists"
        facts |= _columns(connection, table)
        facts |= _keys(connection, table)
        for name, said in _checks(sql):
            facts["check", f"{table}.{name}"] = said
    return facts


def _columns(connection: sqlite3.Connection, table: str) -> dict[tuple[str, str], str]:
    facts: dict[tuple[str, str], str] = {}
    key: dict[int, str] = {}
    for name, kind, required, default, place in connection.execute(_COLUMNS, (table,)):
        said = f"{kind}{' NOT NULL' if required else ''}"
        facts["column", f"{table}.{name}"] = said + (
            "" if default is None else f" DEFAULT {default}"
        )
        if place:
            key[place] = name
    if key:
        facts["primary key", table] = f"({', '.join(key[place] for place in sorted(key))})"
    return facts


def _keys(connection: sqlite3.Connection, table: str) -> dict[tuple[str, str], str]:
    facts: dict[tuple[str, str], str] = {}
    for name, unique, origin, partial in connection.execute(_INDEXES, (table,)).fetchall():
        indexed = connection.execute(_INDEXED, (name,)).fetchall()
        columns = ", ".join(f"{c or 'expression'}{' DESC' if down else ''}" for c, down in indexed)
        if origin == "u":  # SQLite numbers them, so the columns are the name
            facts["unique constraint", f"{table}.({columns})"] = "exists"
        elif origin == "c":
            sql = connection.execute(_WHERE, (name,)).fetchone()[0] if partial else ""
            condition = " ".join(re.split(r"\bWHERE\b", sql, flags=re.IGNORECASE)[-1].split())
            said = f"{'UNIQUE ' if unique else ''}({columns})"
            facts["index", f"{table}.{name}"] = said + (f" WHERE {condition}" if partial else "")
    for columns, target, theirs, update, delete in connection.execute(_REFERENCES, (table,)):
        facts["reference", f"{table}.({columns})"] = (
            f"{target} ({theirs}) ON UPDATE {update} ON DELETE {delete}"
        )
    return facts


def _checks(sql: str) -> list[tuple[str, str]]:
    """The named checks of a CREATE TABLE: name, and condition on one line."""
    found = []
    for match in re.finditer(r'CONSTRAINT\s+("[^"]+"|\w+)\s+CHECK\s*\(', sql, re.IGNORECASE):
        depth, at = 1, match.end()
        while depth and at < len(sql):
            depth += (sql[at] == "(") - (sql[at] == ")")
            at += 1
        found.append((match[1].strip('"'), " ".join(sql[match.end() : at - 1].split())))
    return found
