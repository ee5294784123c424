"""The stores of the prototype: one SQLite file for each module, migrated, with its ports."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
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
from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.module import Resources
from tenfold.ports.news import CommitNews
from tenfold.ports.transfer import Transfer
from tenfold.runtimes.durable import replace_durably
from tenfold.runtimes.opening import (
    ModuleTables,
    OpenedModule,
    Surroundings,
    no_migrations,
    refuse_missing,
)
from tenfold.runtimes.reflection import ModuleShape

__all__ = ["SqliteStores"]

_READERS_S = 0.2


class SqliteStores:
    """Every module's file in one folder, which this process has to itself. Implements `Stores`."""

    shared = False

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._readers = ReaderPool()
        self._opened: list[_OpenedFile] = []

    async def start(self) -> None:
        """Make the folder."""
        self._around.data_dir.mkdir(parents=True, exist_ok=True)

    async def open(
        self, shape: ModuleShape, on_commit: Callable[[CommitNews], None]
    ) -> OpenedModule:
        """Migrate a module's file and open it. See `Stores.open`."""
        opened = _open(shape, self._around, self._readers, on_commit)
        self._opened.append(opened)
        return opened

    @property
    def replicas(self) -> None:
        """None: a file is on one machine."""
        return None

    def transfers(self, target: str, sources: Iterable[str]) -> dict[str, Transfer]:
        """None: every module has a file of its own."""
        return {}

    def store(self, module: str) -> SqliteStore:
        """One module's file, for whoever moves it."""
        return next(each.store for each in self._opened if each.store.module == module)

    def tell(self, topic: str) -> None:
        """Nothing: there is no other process."""

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Nothing: there is no other process."""

    async def lead(
        self,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        service: str = "",
    ) -> None:
        """Lead at once, and to the end."""
        await begin()

    async def stop_leading(self) -> None:
        """Nothing: nobody else would lead."""

    async def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something unless its mark is in the folder. See `Stores.once`."""
        folder = self._around.data_dir
        if not (folder / name).exists():
            await work()
            _mark(folder, name)

    def metrics(self) -> list[Gauge | Counter]:
        """Nothing: there are neither connections nor replicas."""
        return []

    async def horizon_age_s(self) -> None:
        """None: there is one writer at a time."""

    async def close(self, wait_s: float) -> None:
        """Close every file, off the loop: what a writer still commits is answered on it."""
        opened, self._opened = self._opened, []
        await asyncio.to_thread(self._close_all, opened, wait_s)

    def _close_all(self, opened: list[_OpenedFile], wait_s: float) -> None:
        until = time.monotonic() + wait_s
        for module in opened:
            module.store.close(max(until - time.monotonic(), 0.0))
        self._readers.close(max(until - time.monotonic(), _READERS_S))


class _OpenedFile:
    """One module's file, open. Implements `OpenedModule`."""

    def __init__(self, store: SqliteStore, resources: Resources, outdated: list[str]) -> None:
        self.store = store
        self.database = SqliteDatabase(store)
        self.resources = resources
        self.outdated = outdated

    @property
    def healthy(self) -> bool:
        """Whether it still writes."""
        return self.store.healthy

    async def start(self) -> None:
        """Start writing, and learn which generation of each projection answers."""
        self.store.start()
        await self.refresh_generations()

    async def refresh_generations(self) -> None:
        """Let queries read the generations that are active now."""
        states = await self.resources.generations.state()
        self.store.generations = {name: state.active for name, state in states.items()}

    async def tidy(self) -> list[str]:
        """Nothing is left over: it was dropped when the file was opened."""
        return self.outdated

    def answer_from(self, projection: str, generation: int) -> None:
        """Let queries read another generation of a projection from now on."""
        self.store.generations = {**self.store.generations, projection: generation}


def _open(
    shape: ModuleShape,
    around: Surroundings,
    readers: ReaderPool,
    on_commit: Callable[[CommitNews], None],
) -> _OpenedFile:
    """Migrate a module's file and open it; nothing is written until `start`.

    Raises: ContractError, MigrationError; StoreUnavailableError where the disk is full or fails,
    after which a start with room goes on where this one ended.
    """
    file = around.data_dir / f"{shape.name}.db"
    tables = ModuleTables.of(shape)
    own = tables.own
    with _told(shape.name):
        _migrate(shape, file, own, around)
    planner = Planner(module=shape.name, scoped=shape.scoped, projections=tables.owners)
    store = SqliteStore(
        file,
        shape.name,
        planner,
        readers,
        around.clock,
        tables=tables.by_name,
        on_commit=on_commit,
    )
    generations = SqliteGenerations(store, tables.projected)
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
    return _OpenedFile(store, resources, outdated)


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
        raise no_migrations(shape.name, own)


def _check_migrated(connection: sqlite3.Connection, shape: ModuleShape, own: list[Table]) -> None:
    """Every declared table and column is in the file: a forgotten migration is told at start."""
    for table in own:
        rows = connection.execute("SELECT name FROM pragma_table_info(?)", (table.name,))
        there = {row[0] for row in rows}
        refuse_missing(shape.name, table, there)


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


def _mark(folder: Path, name: str) -> None:
    """Put a file there that is on the disk when this returns."""
    replace_durably(folder / name, msgspec.json.encode({"at": datetime.now(UTC)}))
