"""A module's statements on SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from tenfold.adapters.sqlite.generations import SqliteGenerations
from tenfold.adapters.sqlite.planner import Planner, constraint_of
from tenfold.adapters.sqlite.schema import create_platform_tables
from tenfold.tables.search import create_search_sql, search_indexes
from tenfold.testing.statement_shapes import PROJECTIONS, TABLES, TOTALS
from tenfold.testing.statements import Ran, StatementCases


class SqliteStatements:
    """Statements on one connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._planner = Planner(module="shop", scoped=True, projections=PROJECTIONS)

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
        cursor = self._connection.execute(sql, values)
        raw = cursor.fetchall()
        rows = [plan.row(row) if into is None else plan.into(row, into) for row in raw]
        return Ran(rows=rows if plan.columns else [], changed=cursor.rowcount)

    async def violated(
        self, statement: Any, /, tenant: str = "one", **parameters: Any
    ) -> str | None:
        with pytest.raises(sqlite3.IntegrityError) as caught:
            await self.run(statement, tenant, **parameters)
        return constraint_of(caught.value, TABLES.tables)


class TestSqliteStatements(StatementCases):
    @pytest.fixture
    def statements(self) -> Iterator[SqliteStatements]:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        dialect = SQLiteDialect_pysqlite()
        create_platform_tables(connection)
        for table in TABLES.sorted_tables:
            if table.name in PROJECTIONS:
                continue
            connection.execute(str(CreateTable(table).compile(dialect=dialect)))
            for index in table.indexes:
                connection.execute(str(CreateIndex(index).compile(dialect=dialect)))
            for search in search_indexes(table):
                key, columns = search.key, search.columns
                for sql in create_search_sql(search.name, table.name, key, columns, "sqlite"):
                    connection.execute(sql)
        generations = SqliteGenerations(None, {"sums": [TOTALS]})  # type: ignore[arg-type]
        generations.ensure(connection)
        generations._make(connection, "sums", 2)
        yield SqliteStatements(connection)
        connection.close()
