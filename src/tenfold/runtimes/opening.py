"""Opening a module's store in the prototype: one SQLite file, migrated, with its ports."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Table

from tenfold.adapters.sqlite.connection import unavailable
from tenfold.adapters.sqlite.database import SqliteDatabase
from tenfold.adapters.sqlite.generations import SqliteGenerations
from tenfold.adapters.sqlite.migrate import migrate
from tenfold.adapters.sqlite.outbox import SqliteOutbox
from tenfold.adapters.sqlite.planner import Planner
from tenfold.adapters.sqlite.queue import SqliteQueue
from tenfold.adapters.sqlite.readers import ReaderPool
from tenfold.adapters.sqlite.store import SqliteStore
from tenfold.contracts.errors import ContractError
from tenfold.path.module import Resources
from tenfold.path.stops import Stops
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.news import CommitNews
from tenfold.runtimes.reflection import ModuleShape
from tenfold.tables.check import check_tables

__all__ = ["OpenedModule", "Surroundings", "open_module"]


class Surroundings:
    """What the modules of one process share."""

    def __init__(self, data_dir: Path, clock: Clock, ids: Ids, *, create_tables: bool) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.ids = ids
        self.create_tables = create_tables
        self.readers = ReaderPool()
        self.stops = Stops()


class OpenedModule:
    """A module's store, open: its database for handlers, and the ports of the path."""

    def __init__(self, store: SqliteStore, resources: Resources, outdated: list[str]) -> None:
        self.store = store
        self.database = SqliteDatabase(store)
        self.resources = resources
        self.outdated = outdated
        """Projections whose declared tables no longer fit the stored ones: to be rebuilt."""

    async def start(self) -> None:
        """Start writing, and learn which generation of each projection answers."""
        self.store.start()
        await self.refresh_generations()

    async def refresh_generations(self) -> None:
        """Let queries read the generations that are active now."""
        states = await self.resources.generations.state()
        self.store.generations = {name: state.active for name, state in states.items()}

    def close(self, wait_s: float) -> None:
        """Commit what was handed in, then close the file, within a bound."""
        self.store.close(wait_s)


def open_module(
    shape: ModuleShape, around: Surroundings, on_commit: Callable[[CommitNews], None]
) -> OpenedModule:
    """Migrate a module's file and open it; nothing is written until `start`.

    Raises: ContractError, MigrationError; StoreUnavailableError where the disk is full or fails,
    after which a start with room goes on where this one ended.
    """
    file = around.data_dir / f"{shape.name}.db"
    projected = {projection.name: projection.tables for projection in shape.projections.values()}
    owners = {table.name: name for name, tables in projected.items() for table in tables}
    own = [] if shape.metadata is None else shape.metadata.sorted_tables
    own = [table for table in own if table.name not in owners]
    projections = [table for tables in projected.values() for table in tables]
    check_tables(shape.name, [*own, *projections], scoped=shape.scoped)
    with _told(shape.name):
        _migrate(shape, file, own, around)
    planner = Planner(module=shape.name, scoped=shape.scoped, projections=owners)
    store = SqliteStore(
        file,
        shape.name,
        planner,
        around.readers,
        around.clock,
        tables={table.name: table for table in (*own, *projections)},
        on_commit=on_commit,
    )
    generations = SqliteGenerations(store, projected)
    outdated: list[str] = []

    def prepare(connection: sqlite3.Connection) -> None:
        if around.create_tables:
            _create(connection, own)
        _check_migrated(connection, shape, own)
        outdated.extend(generations.ensure(connection))

    with _told(shape.name):
        store.prepare(prepare)
    resources = Resources(
        units=store,
        log=SqliteOutbox(store, around.clock),
        queue=SqliteQueue(store, around.clock),
        generations=generations,
        clock=around.clock,
        ids=around.ids,
        stops=around.stops,
    )
    return OpenedModule(store, resources, outdated)


@contextmanager
def _told(module: str) -> Iterator[None]:
    """SQLite's failures at the start, as the platform's error with the way to mend it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise unavailable(module, error) from error


def _migrate(shape: ModuleShape, file: Path, own: list[Table], around: Surroundings) -> None:
    if shape.migrations is not None:
        migrate(file, shape.name, shape.migrations)
    elif own and not around.create_tables:
        raise ContractError(
            f"Module {shape.name!r} has tables {[table.name for table in own]} and no folder "
            "`migrations` beside its module.py. Add one with a revision that makes them."
        )


def _check_migrated(connection: sqlite3.Connection, shape: ModuleShape, own: list[Table]) -> None:
    """Every declared table and column is in the file: a forgotten migration is told at start."""
    for table in own:
        rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))
        there = {row[0] for row in rows}
        missing = [column.name for column in table.columns if column.name not in there]
        if missing:
            what = ", ".join(f"{table.name}.{name}" for name in missing) if there else table.name
            raise ContractError(
                f"Module {shape.name!r} declares {what}, and no migration makes it. Nothing was "
                "started. Add a revision to its folder `migrations` that does."
            )


def _create(connection: sqlite3.Connection, tables: list[Table]) -> None:
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
    from sqlalchemy.schema import CreateIndex, CreateTable

    from tenfold.tables.search import create_search_sql, search_indexes

    dialect = SQLiteDialect_pysqlite()
    present = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    for table in tables:
        if table.name in present:
            continue
        made: list[Any] = [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
        for statement in made:
            connection.execute(str(statement.compile(dialect=dialect)))
        for search in search_indexes(table):
            for text in create_search_sql(
                search.name, table.name, search.key, search.columns, "sqlite"
            ):
                connection.execute(text)
