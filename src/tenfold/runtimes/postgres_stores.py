"""The stores of the growth topology: one PostgreSQL database, a schema for each module."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Table

from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.adapters.postgres.generations import PostgresGenerations
from tenfold.adapters.postgres.horizon import keep_order
from tenfold.adapters.postgres.leader import Leadership
from tenfold.adapters.postgres.migrate import migrate
from tenfold.adapters.postgres.outbox import PostgresOutbox
from tenfold.adapters.postgres.planner import Planner
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.queue import PostgresQueue
from tenfold.adapters.postgres.replicas import PostgresReplicas, ReplicaLimits
from tenfold.adapters.postgres.schema import create_platform_tables, lock_key, quoted
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.store import PostgresStore
from tenfold.adapters.postgres.transfer import PostgresTransfer
from tenfold.adapters.postgres.wakeups import Wakeups
from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.module import Resources
from tenfold.ports.news import CommitNews
from tenfold.ports.replicas import Replicas
from tenfold.ports.transfer import Transfer
from tenfold.runtimes.database_gauges import pool_metrics, replica_metrics
from tenfold.runtimes.moving.arrival import await_arrival
from tenfold.runtimes.opening import (
    ModuleTables,
    OpenedModule,
    Surroundings,
    no_migrations,
    refuse_missing,
)
from tenfold.runtimes.reflection import ModuleShape
from tenfold.runtimes.settings import DatabaseSettings

__all__ = ["PostgresStores"]

_DIRECT_POOL: Final = 3
_ONCE_LOOK_S: Final = 0.1
PRODUCT_SCHEMA: Final = "tenfold"
"""The schema of what belongs to the product and to no module. No module has this name."""
_PRODUCT = f"""
CREATE SCHEMA IF NOT EXISTS {PRODUCT_SCHEMA};
CREATE TABLE IF NOT EXISTS {PRODUCT_SCHEMA}.marks (
    name text PRIMARY KEY,
    value text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""
_MARK = f"""
INSERT INTO {PRODUCT_SCHEMA}.marks (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING
"""
_MARKED = f"SELECT value FROM {PRODUCT_SCHEMA}.marks WHERE name = $1"
_COLUMNS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = $1 AND table_name = $2
"""


class PostgresStores:
    """Every module's schema in one database that processes share. Implements `Stores`."""

    shared = True

    def __init__(
        self, settings: DatabaseSettings, around: Surroundings, *, moving_in: bool = False
    ) -> None:
        """Nothing is reached before `start`.

        Args:
            moving_in: whether a move into this database, which nobody else may
                work on before it is done, is this process's own.
        """
        self._settings = settings
        self._around = around
        self._moving_in = moving_in
        self._pool = Pool(_pool_settings(settings, settings.url, "read-write"))
        self._replica_pools = [
            (f"replica-{n}", Pool(_pool_settings(settings, url, "any")))
            for n, url in enumerate(settings.replicas, start=1)
        ]
        self._replicas: PostgresReplicas | None = None
        self._direct_url = settings.session_url
        self._direct = self._pool
        if settings.direct_url:
            # Past the pooler, for what needs a session of its own.
            own = msgspec.structs.replace(settings, pooler="none", pool=_DIRECT_POOL)
            self._direct = Pool(_pool_settings(own, settings.direct_url, "read-write"))
        self._wakeups = Wakeups(self._direct)
        self._leadership: Leadership | None = None
        self._opened: dict[str, _OpenedSchema] = {}

    @property
    def replicas(self) -> Replicas | None:
        """The servers that hold the data, where there is more than one."""
        return self._replicas

    async def start(self) -> None:
        """Reach the server, and make what belongs to the product. See `Stores.start`."""
        session = PoolSession(self._pool, PRODUCT_SCHEMA)

        async def prepare(connection: Any) -> str:
            await connection.execute(
                "SELECT pg_advisory_xact_lock($1)", lock_key("create", PRODUCT_SCHEMA)
            )
            await connection.execute(_PRODUCT)
            await connection.execute(_MARK, "server", secrets.token_hex(4))
            return str(await connection.fetchval(_MARKED, "server"))

        if not self._moving_in:
            await await_arrival(session)
        server = await session.write(prepare)
        if self._replica_pools:
            limits = ReplicaLimits(
                wait_s=self._settings.replica_wait_s, max_lag_s=self._settings.max_lag_s
            )
            self._replicas = PostgresReplicas(
                self._pool, self._replica_pools, limits, server=server
            )
            await self._replicas.start()

    async def open(
        self, shape: ModuleShape, on_commit: Callable[[CommitNews], None]
    ) -> OpenedModule:
        """Migrate a module's schema and open it. See `Stores.open`."""
        tables = ModuleTables.of(shape)
        session = PoolSession(self._pool, shape.name)
        await self._make(shape, tables, session)

        def told(news: CommitNews) -> None:
            on_commit(news)
            if news.head or news.entries:
                self._wakeups.tell(shape.name)

        store = PostgresStore(
            self._pool,
            shape.name,
            Planner(
                module=shape.name,
                scoped=shape.scoped,
                projections=tables.owners,
                schema=shape.name,
            ),
            self._around.clock,
            tables=tables.by_name,
            on_commit=told,
        )
        generations = PostgresGenerations(session, shape.name, tables.projected)
        outdated = await session.read(generations.ensure)
        log = PostgresOutbox(session, self._around.clock)
        resources = Resources(
            units=store,
            log=log,
            queue=PostgresQueue(session, self._around.clock),
            generations=generations,
            clock=self._around.clock,
            ids=self._around.ids,
            stops=self._around.stops,
        )
        database = PostgresDatabase(store, self._replicas)
        opened = _OpenedSchema(store, database, resources, generations, outdated, log)
        opened.replicas = self._replicas
        self._opened[shape.name] = opened
        return opened

    def transfers(self, target: str, sources: Iterable[str]) -> dict[str, Transfer]:
        """How the database itself carries events into a module's queue. See `Stores.transfers`."""
        session = self._opened[target].store.session
        return {
            source: PostgresTransfer(session, quoted(source), source, self._around.clock)
            for source in sources
        }

    def tell(self, topic: str) -> None:
        """Let other processes know of something. See `Stores.tell`."""
        self._wakeups.tell(topic)

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Hear what other processes tell after their commits. See `Stores.listen`."""
        await self._wakeups.listen(hear)

    async def lead(
        self,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        service: str = "",
    ) -> None:
        """Lead as long as this process holds the lock. See `Stores.lead`."""
        name = f"service {service}" if service else "product"
        self._leadership = Leadership(self._direct_url, gained=begin, lost=end, name=name)
        await self._leadership.start()

    async def stop_leading(self) -> None:
        """Give the lock up for good. See `Stores.stop_leading`."""
        leadership, self._leadership = self._leadership, None
        if leadership is not None:
            await leadership.stop()

    async def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something unless its mark is in the database. See `Stores.once`."""
        pooled = await self._direct.take()
        try:
            key = lock_key(f"once {name}", PRODUCT_SCHEMA)
            # Asked for again and again: a statement that waits would run into its time limit.
            while True:
                if await pooled.raw.fetchval("SELECT pg_try_advisory_lock($1)", key):
                    break
                await asyncio.sleep(_ONCE_LOOK_S)
            try:
                if await pooled.raw.fetchval(_MARKED, name) is None:
                    await work()
                    await pooled.raw.execute(_MARK, name, "done")
            finally:
                await pooled.raw.execute("SELECT pg_advisory_unlock($1)", key)
        finally:
            self._direct.give_back(pooled)

    def metrics(self) -> list[Gauge | Counter]:
        """Its connections, and its replicas as it sees them. See `Stores.metrics`."""
        found: list[Gauge | Counter] = []
        for name, pool in (("primary", self._pool), *self._replica_pools):
            found += pool_metrics(name, pool.statistics())
        if self._replicas is not None:
            for state in self._replicas.states():
                found += replica_metrics(state)
        return found

    async def horizon_age_s(self) -> float | None:
        """What the oldest open transaction holds up, of all modules. See `Stores.horizon_age_s`."""
        # All modules are in one database, where transactions are numbered together.
        for opened in self._opened.values():
            return await opened.log.horizon_age_s()
        return None

    async def close(self, wait_s: float) -> None:
        """Close every connection, within a bound. See `Stores.close`."""
        await self.stop_leading()
        await self._wakeups.close()
        if self._replicas is not None:
            await self._replicas.stop()
        for _, pool in self._replica_pools:
            await pool.close(wait_s)
        if self._direct is not self._pool:
            await self._direct.close(wait_s)
        await self._pool.close(wait_s)

    async def _make(self, shape: ModuleShape, tables: ModuleTables, session: PoolSession) -> None:
        """The platform's tables, then the module's own, each by one process at a time."""
        around = self._around

        async def platform(connection: Any) -> None:
            await create_platform_tables(connection, shape.name)
            await keep_order(connection, shape.name)

        await session.write(platform)
        if shape.migrations is not None:
            # Old code may run on it still, so what it needs stays; and new code may have been
            # here before, which the check below is content with as long as all is there.
            await migrate(
                self._direct_url,
                shape.name,
                shape.migrations,
                phases=("before",),
                ahead_ok=True,
            )
        elif tables.own and not around.create_tables:
            raise no_migrations(shape.name, tables.own)

        async def check(connection: Any) -> None:
            if around.create_tables:
                await _create(connection, shape.name, tables.own)
            for table in tables.own:
                rows = await connection.fetch(_COLUMNS, shape.name, table.name)
                refuse_missing(shape.name, table, {row[0] for row in rows})

        await session.write(check)


class _OpenedSchema:
    """One module's schema, open. Implements `OpenedModule`."""

    def __init__(
        self,
        store: PostgresStore,
        database: PostgresDatabase,
        resources: Resources,
        generations: PostgresGenerations,
        outdated: list[str],
        log: PostgresOutbox,
    ) -> None:
        self._generations = generations
        self.log = log
        self.store = store
        self.database = database
        self.resources = resources
        self.outdated = outdated
        self.replicas: PostgresReplicas | None = None
        store.refresh_generations = self.refresh_generations

    @property
    def healthy(self) -> bool:
        """Whether the server could be reached when it was tried last."""
        return self.store.healthy

    async def start(self) -> None:
        """Learn how far the log goes, and which generation of each projection answers."""
        await self.store.start()
        await self.refresh_generations()

    async def refresh_generations(self) -> None:
        """Let queries read the generations that are active now."""
        states = await self.resources.generations.state()
        self._read_from({name: state.active for name, state in states.items()})

    async def tidy(self) -> list[str]:
        """Drop what is left over of projections. See `OpenedModule.tidy`."""
        return await self._generations.tidy()

    def answer_from(self, projection: str, generation: int) -> None:
        """Let queries read another generation of a projection from now on."""
        self._read_from({**self.store.generations, projection: generation})

    def _read_from(self, generations: dict[str, int]) -> None:
        if generations == self.store.generations:
            return
        if self.replicas is not None:
            # One that lags has not all of these tables' rows, whatever position it has reached.
            self.replicas.require_now()
        self.store.generations = generations


def _pool_settings(settings: DatabaseSettings, url: str, target: str) -> PoolSettings:
    return PoolSettings(
        url=url,
        size=settings.pool,
        connect_timeout_s=settings.connect_timeout_s,
        statement_timeout_s=settings.statement_timeout_s,
        lock_timeout_s=settings.lock_timeout_s,
        idle_timeout_s=settings.idle_in_transaction_timeout_s,
        pooler=settings.pooler,
        target=target,
    )


async def _create(connection: Any, schema: str, tables: Iterable[Table]) -> None:
    """Make the tables of a module without migrations, for tests."""
    from sqlalchemy import MetaData
    from sqlalchemy.schema import CreateIndex, CreateTable

    from tenfold.adapters.postgres.dialect import TableDialect
    from tenfold.tables.search import create_search_sql, search_indexes

    dialect = TableDialect()  # type: ignore[no-untyped-call]
    for table in tables:
        if await connection.fetch(_COLUMNS, schema, table.name):
            continue
        placed = table.to_metadata(MetaData(), schema=schema)
        made: list[Any] = [CreateTable(placed), *(CreateIndex(each) for each in placed.indexes)]
        texts = [str(statement.compile(dialect=dialect)) for statement in made]
        for search in search_indexes(table):
            texts += create_search_sql(
                search.name, table.name, search.key, search.columns, "postgresql", schema
            )
        for text in texts:
            await connection.execute(text)
