"""The generations of a module's projections on SQLite.

Each generation has tables of its own, `{name}__{generation}`, made from what
the projection declares; no migration touches them. A number is never given
twice, so what is left of an old generation cannot be taken for a new one's.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import MetaData, Table
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import quoted_name

from tenfold.adapters.sqlite.claims import wake_lanes
from tenfold.adapters.sqlite.session import Session
from tenfold.ports.projections import GenerationState
from tenfold.tables.errors import GenerationError, TableDeclarationError
from tenfold.tables.scoping import physical_name
from tenfold.tables.search import create_search_sql, drop_search_sql, search_indexes

__all__ = ["SqliteGenerations"]

_PROJECTIONS: Final = """
-- Which generation of each projection answers, and which is being built beside it.
CREATE TABLE IF NOT EXISTS tenfold_projections (
    name TEXT PRIMARY KEY,
    active INTEGER NOT NULL,
    building INTEGER,
    newest INTEGER NOT NULL
) WITHOUT ROWID
"""
_GENERATIONS: Final = """
-- What each generation was made of. `made` is a JSON array of the names of its
-- tables and of its search indexes: [["table", name], ["search", name], ...].
CREATE TABLE IF NOT EXISTS tenfold_generations (
    projection TEXT NOT NULL,
    generation INTEGER NOT NULL,
    shape TEXT NOT NULL,
    made TEXT NOT NULL,
    PRIMARY KEY (projection, generation)
) WITHOUT ROWID
"""
_LANES: Final = """
SELECT DISTINCT lane FROM tenfold_queue
WHERE substr(handler, 1, ?) = ? AND generation = ? AND lane IS NOT NULL
"""
_BUILD_NONE: Final = "UPDATE tenfold_projections SET building = NULL WHERE name = ?"
_FORGET: Final = "DELETE FROM {} WHERE substr(handler, 1, ?) = ? AND generation = ?"
_KEPT_BY_HANDLER: Final = ("tenfold_queue", "tenfold_positions", "tenfold_inbox")
_DIALECT: Final = SQLiteDialect_pysqlite()


class SqliteGenerations:
    """Generations of one module's projections. Implements the port `Generations`.

    Args:
        session: the platform's own work on the module's file.
        projections: the tables of each projection, by its name.
    """

    def __init__(self, session: Session, projections: Mapping[str, Sequence[Table]]) -> None:
        self._session = session
        self._projections = {name: tuple(tables) for name, tables in projections.items()}
        for name, tables in self._projections.items():
            _check(name, tables)

    def ensure(self, connection: sqlite3.Connection) -> list[str]:
        """Make generation 1 of projections that have none, before the module serves.

        What a life before left over is dropped: a generation that was swapped out,
        and one being built whose tables are not as this code declares them.

        Returns: the projections whose tables are not as declared, in the generation
            that answers or was being built; each needs a rebuild, and until then its
            statements may fail.
        """
        with _transaction(connection):
            connection.execute(_PROJECTIONS)
            connection.execute(_GENERATIONS)
            known = self._rows(connection)
            for name in self._projections:
                if name not in known:
                    connection.execute(
                        "INSERT INTO tenfold_projections VALUES (?, 1, NULL, 1)", (name,)
                    )
                    self._make(connection, name, 1)
            outdated: list[str] = []
            for name, (active, building, _) in known.items():
                shape = _shape(self._projections[name])
                shapes = self._shapes(connection, name)
                if building is not None and shapes.get(building) != shape:
                    connection.execute(_BUILD_NONE, (name,))
                    building = None
                    outdated.append(name)
                elif shapes.get(active) != shape:
                    outdated.append(name)
                for left in shapes.keys() - {active, building}:
                    self._drop(connection, name, left)
            return outdated

    async def state(self) -> dict[str, GenerationState]:
        """Every projection by name."""
        return await self._session.read(self.read_state)

    def read_state(self, connection: sqlite3.Connection) -> dict[str, GenerationState]:
        """The same, on a connection at hand: for the start, before the session is open."""
        return {
            name: GenerationState(active=active, building=building)
            for name, (active, building, _) in self._rows(connection).items()
        }

    async def begin(self, name: str) -> int:
        """Make empty tables for a further generation and return its number.

        Raises: GenerationError (NOT_DONE) for a projection that is not declared.
        """

        def work(connection: sqlite3.Connection) -> int:
            _, building, newest = self._row(connection, name)
            if building is not None:
                self._drop(connection, name, building)
            made = newest + 1
            self._make(connection, name, made)
            connection.execute(
                "UPDATE tenfold_projections SET building = ?, newest = ? WHERE name = ?",
                (made, made, name),
            )
            return made

        return await self._session.write(work)

    async def swap(self, name: str, generation: int) -> None:
        """Let a generation answer from now on, in one transaction. See `Generations.swap`.

        Raises: GenerationError (NOT_DONE) where this is not the one being built.
        """

        def work(connection: sqlite3.Connection) -> None:
            self._refuse_unless_built(connection, name, generation)
            connection.execute(
                "UPDATE tenfold_projections SET active = ?, building = NULL WHERE name = ?",
                (generation, name),
            )

        await self._session.write(work)

    async def drop(self, name: str, generation: int) -> None:
        """Drop a generation that does not answer. One that is gone already is no mistake.

        Raises: GenerationError (NOT_DONE) for the one that answers.
        """

        def work(connection: sqlite3.Connection) -> None:
            active, building, _ = self._row(connection, name)
            if generation == active:
                raise GenerationError(
                    f"Generation {generation} of the projection {name!r} answers, so it cannot "
                    "be dropped. Nothing was changed. Swap another one in first."
                )
            if generation == building:
                connection.execute(_BUILD_NONE, (name,))
            self._drop(connection, name, generation)

        await self._session.write(work)

    def _rows(self, connection: sqlite3.Connection) -> dict[str, tuple[int, int | None, int]]:
        rows = connection.execute("SELECT name, active, building, newest FROM tenfold_projections")
        return {row[0]: (row[1], row[2], row[3]) for row in rows if row[0] in self._projections}

    def _row(self, connection: sqlite3.Connection, name: str) -> tuple[int, int | None, int]:
        row = self._rows(connection).get(name)
        if row is None:
            known = ", ".join(sorted(self._projections)) or "none"
            raise GenerationError(
                f"There is no projection {name!r}. Nothing was changed. This module has: {known}."
            )
        return row

    def _refuse_unless_built(
        self, connection: sqlite3.Connection, name: str, generation: int
    ) -> None:
        _, building, _ = self._row(connection, name)
        if building != generation:
            raise GenerationError(
                f"Generation {generation} of the projection {name!r} is not the one being built "
                f"({building or 'none is'}). Nothing was changed. Another rebuild was begun or "
                "ended meanwhile: look at its state, and begin again."
            )

    def _shapes(self, connection: sqlite3.Connection, name: str) -> dict[int, str]:
        """The shape of each generation that has tables."""
        return dict(
            connection.execute(
                "SELECT generation, shape FROM tenfold_generations WHERE projection = ?", (name,)
            ).fetchall()
        )

    def _make(self, connection: sqlite3.Connection, name: str, generation: int) -> None:
        tables = self._projections[name]
        made: list[tuple[str, str]] = []
        for table in tables:
            for statement in _create(table, generation):
                connection.execute(statement)
            made.append(("table", physical_name(table.name, generation)))
            made.extend(
                ("search", physical_name(index.name, generation)) for index in search_indexes(table)
            )
        connection.execute(
            "INSERT INTO tenfold_generations VALUES (?, ?, ?, ?)",
            (name, generation, _shape(tables), json.dumps(made)),
        )

    def _drop(self, connection: sqlite3.Connection, name: str, generation: int) -> None:
        key = (name, generation)
        row = connection.execute(
            "DELETE FROM tenfold_generations WHERE projection = ? AND generation = ? "
            "RETURNING made",
            key,
        ).fetchone()
        for kind, made in json.loads(row[0]) if row is not None else ():
            if kind == "search":
                for statement in drop_search_sql(made, (), "sqlite"):
                    connection.execute(statement)
        for kind, made in json.loads(row[0]) if row is not None else ():
            if kind == "table":
                connection.execute(f'DROP TABLE IF EXISTS "{made}"')
        handler = (len(name) + 1, name + ".", generation)
        lanes = [row[0] for row in connection.execute(_LANES, handler)]
        for kept in _KEPT_BY_HANDLER:
            connection.execute(_FORGET.format(kept), handler)
        wake_lanes(connection, lanes)


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _check(name: str, tables: Sequence[Table]) -> None:
    if not tables:
        raise TableDeclarationError(
            f"The projection {name!r} declares no tables, so nothing of it could be kept. "
            "Name them in its `tables`."
        )
    for table in tables:
        if table.foreign_keys:
            raise TableDeclarationError(
                f"The table {table.name!r} of the projection {name!r} has a foreign key, which "
                "would tie one generation to another. Leave it out."
            )


def _create(table: Table, generation: int) -> list[str]:
    """The statements that make one table of one generation, with its indexes."""
    physical = table.to_metadata(MetaData(), name=physical_name(table.name, generation))
    statements: list[Any] = [CreateTable(physical)]
    indexes = sorted(physical.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.name = quoted_name(physical_name(str(index.name), generation), quote=None)
    statements += [CreateIndex(index) for index in indexes]
    texts = [str(statement.compile(dialect=_DIALECT)) for statement in statements]
    for search in search_indexes(table):
        name = physical_name(search.name, generation)
        texts += create_search_sql(name, physical.name, search.key, search.columns, "sqlite")
    return texts


def _shape(tables: Sequence[Table]) -> str:
    """A digest of what the tables are declared to be."""
    texts = [text for table in sorted(tables, key=lambda t: t.name) for text in _create(table, 0)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
