"""A module's statements on PostgreSQL."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import asyncpg
import pytest
from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import quoted_name

from tenfold.adapters.postgres.dialect import TableDialect
from tenfold.adapters.postgres.planner import Planner, constraint_of
from tenfold.tables.search import create_search_sql, search_indexes
from tenfold.tables.words import folded_words, words_function_sql
from tenfold.testing.statement_shapes import PROJECTIONS, TABLES
from tenfold.testing.statements import Ran, StatementCases

_SCHEMA = "shop"


def _create(table: Table, generation: int | None) -> list[str]:
    """The statements that make a table, of one generation where it is a projection's."""
    end = "" if generation is None else f"__{generation}"
    made = table.to_metadata(MetaData(), schema=_SCHEMA, name=table.name + end)
    parts: list[Any] = [*made.constraints, *made.indexes]
    for named in parts:
        named.name = quoted_name(f"{named.name}{end}", quote=None)
    statements: Sequence[Any] = [CreateTable(made), *map(CreateIndex, made.indexes)]
    dialect = cast("Any", TableDialect)()
    texts = [str(each.compile(dialect=dialect)) for each in statements]
    for search in search_indexes(table):
        texts += create_search_sql(
            search.name, made.name, search.key, search.columns, "postgresql", _SCHEMA
        )
    return texts


class PostgresStatements:
    """Statements on one connection."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._planner = Planner(module="shop", scoped=True, projections=PROJECTIONS, schema=_SCHEMA)

    async def run(
        self,
        statement: Any,
        /,
        tenant: str = "one",
        *,
        generation: int = 1,
        into: type | None = None,
        **parameters: Any,
    ) -> Ran:
        plan = self._planner.plan(statement)
        sql, values = plan.render(parameters, tenant, {"sums": generation})
        prepared = await self._connection.prepare(sql)
        raw = await prepared.fetch(*values)
        rows = [plan.row(row) if into is None else plan.into(row, into) for row in raw]
        last = prepared.get_statusmsg().rpartition(" ")[2]
        return Ran(rows=rows if plan.columns else [], changed=int(last))

    async def violated(
        self, statement: Any, /, tenant: str = "one", **parameters: Any
    ) -> str | None:
        with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
            await self.run(statement, tenant, **parameters)
        return constraint_of(caught.value, TABLES.tables)


class TestPostgresStatements(StatementCases):
    @pytest.fixture
    async def statements(self, postgres_url: str) -> AsyncIterator[PostgresStatements]:
        connection = await asyncpg.connect(postgres_url)
        await connection.execute(f'CREATE SCHEMA "{_SCHEMA}"')
        for table in TABLES.sorted_tables:
            for generation in (1, 2) if table.name in PROJECTIONS else (None,):
                for sql in _create(table, generation):
                    await connection.execute(sql)
        yield PostgresStatements(connection)
        await connection.close()


@pytest.mark.anyio
async def test_the_database_takes_texts_apart_as_queries_are(postgres_url: str) -> None:
    """Letters of every script, in runs of random characters: the same words on both sides."""
    chance = random.Random(11)
    known = [chr(code) for code in range(1, 0x11000) if not 0xD800 <= code < 0xE000]
    texts = ["".join(chance.choices(known, k=200)) for _ in range(400)]
    texts += [
        "Ærø ŁÓDŹ Ç",
        "İstanbul Straße",
        "24-inch a/b x.y@z",
        "Синий СТУЛ",
        "a" * 900,
        "",
        "_",
    ]
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(words_function_sql())
    found = await connection.fetch(
        "SELECT tenfold_words(t) AS words FROM unnest($1::text[]) WITH ORDINALITY AS x (t, n) "
        "ORDER BY n",
        texts,
    )
    await connection.close()
    for text, row in zip(texts, found, strict=True):
        assert list(dict.fromkeys(row["words"])) == folded_words(text), text
