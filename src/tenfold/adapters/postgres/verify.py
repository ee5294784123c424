"""What a module's schema is, and what its tables would be if they were made now.

The server itself says both: the declared tables are made in a schema beside it,
in a transaction that is rolled back. So nothing has to be known here of how
PostgreSQL spells a type or a condition.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import asyncpg
from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from tenfold.adapters.postgres.dialect import TableDialect, quote
from tenfold.adapters.postgres.errors import DRIVER_ERRORS, unavailable
from tenfold.tables.drift import Drift, decide_drift
from tenfold.tables.search import create_search_sql, search_indexes

__all__ = ["create_table_texts", "verify_schema"]

_BESIDE: Final = "tenfold_verify"
_NOT_THE_PRODUCTS: Final = re.compile(r"tenfold_|alembic_version$")
_COLUMNS: Final = """
SELECT c.relname, a.attname,
    format_type(a.atttypid, a.atttypmod)
    || coalesce(' COLLATE ' || nullif(quote_ident(l.collname), '"default"'), '')
    || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
    || coalesce(
        CASE a.attgenerated WHEN '' THEN ' DEFAULT ' ELSE ' GENERATED AS ' END
        || pg_get_expr(d.adbin, d.adrelid), ''
    )
FROM pg_class AS c
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind IN ('r', 'p')
"""
_CONSTRAINTS: Final = """
SELECT c.relname, o.conname, o.contype::text,
    pg_get_constraintdef(o.oid)
FROM pg_constraint AS o JOIN pg_class AS c ON c.oid = o.conrelid
WHERE c.relnamespace = to_regnamespace($1) AND o.contype IN ('p', 'u', 'f', 'c', 'x')
"""
_INDEXES: Final = """
SELECT c.relname, x.relname,
    pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
FROM pg_index AS i
JOIN pg_class AS c ON c.oid = i.indrelid
JOIN pg_class AS x ON x.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1)
    AND NOT EXISTS (SELECT 1 FROM pg_constraint AS o WHERE o.conindid = i.indexrelid)
"""
_KINDS: Final = {
    "p": "primary key",
    "u": "unique constraint",
    "f": "reference",
    "c": "check",
    "x": "exclusion",
}


def create_table_texts(tables: Iterable[Table], schema: str) -> list[str]:
    """The statements that make tables, with their indexes, in a schema."""
    dialect = TableDialect()  # type: ignore[no-untyped-call]
    texts: list[str] = []
    placed_in = MetaData()
    for table in tables:
        placed = table.to_metadata(placed_in, schema=schema)
        made: list[Any] = [CreateTable(placed), *(CreateIndex(each) for each in placed.indexes)]
        texts += [str(statement.compile(dialect=dialect)) for statement in made]
        for search in search_indexes(table):
            texts += create_search_sql(
                search.name, table.name, search.key, search.columns, "postgresql", schema
            )
    return texts


async def verify_schema(
    url: str, module: str, tables: Iterable[Table], projected: Iterable[str]
) -> list[Drift]:
    """The differences between a module's schema and its declared tables. Changes nothing.

    Args:
        tables: its own, which migrations make.
        projected: the names of its projections' tables, which are not looked at.
    Raises: StoreUnavailableError (NOT_DONE).
    """
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0, timeout=10)
        try:
            found = await _facts(connection, module)
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(f"CREATE SCHEMA {quote(_BESIDE)}")
                for text in create_table_texts(tables, _BESIDE):
                    await connection.execute(text)
                declared = await _facts(connection, _BESIDE)
            finally:
                await transaction.rollback()
        finally:
            await connection.close(timeout=10)
    except (*DRIVER_ERRORS, TimeoutError) as error:
        raise unavailable(f"The look at the schema of module {module!r}", error) from error
    generation = re.compile(rf"(?:{'|'.join(map(re.escape, projected)) or '(?!)'})__\d+")
    ours = {
        key: text
        for key, text in found.items()
        if not generation.fullmatch(key[1].partition(".")[0])
    }
    return decide_drift(module, declared, ours)


async def _facts(connection: Any, schema: str) -> dict[tuple[str, str], str]:
    await connection.execute("SET search_path = pg_catalog")
    spelled = re.compile(rf"(?:{re.escape(quote(schema))}|\b{re.escape(schema)})\.")
    facts: dict[tuple[str, str], str] = {}
    for table, column, said in await connection.fetch(_COLUMNS, quote(schema)):
        facts["table", table] = "exists"
        if column is not None:
            facts["column", f"{table}.{column}"] = spelled.sub("", said)
    for table, name, kind, said in await connection.fetch(_CONSTRAINTS, quote(schema)):
        facts[_KINDS[kind], f"{table}.{name}"] = spelled.sub("", said)
    for table, name, said in await connection.fetch(_INDEXES, quote(schema)):
        facts["index", f"{table}.{name}"] = spelled.sub("", said)
    return {
        key: text
        for key, text in facts.items()
        if not _NOT_THE_PRODUCTS.match(key[1].partition(".")[0])
    }
