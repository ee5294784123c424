"""A module's store on PostgreSQL, driven as the path drives it, without the rest of the path."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
)
from sqlalchemy.schema import CreateTable

from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.adapters.postgres.dialect import TableDialect
from tenfold.adapters.postgres.planner import Planner
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.store import PostgresStore
from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.path.handle import handle_in_unit
from tenfold.path.limit import Limit
from tenfold.path.stops import Stops
from tenfold.path.turns import Turns
from tenfold.ports.clock import Clock, RandomIds, SystemClock
from tenfold.ports.news import CommitNews
from tenfold.ports.records import EventRecord, InboxKey, QueueEntry, ReplyKey
from tenfold.ports.unit import CURRENT, Message, Unit, UnitResult
from tenfold.tables.columns import metadata, tenant

__all__ = [
    "ADD",
    "ADD_PART",
    "ALL",
    "Bench",
    "COUNT",
    "Handler",
    "SIZE",
    "Taken",
    "WIDEN",
    "entry",
    "event",
    "inbox",
    "opened",
    "reply_key",
]

TABLES = metadata()
THINGS = Table(
    "things",
    TABLES,
    tenant(),
    Column("name", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    CheckConstraint("size >= 0", name="not_negative"),
)
PARTS = Table(
    "parts",
    TABLES,
    tenant(),
    Column("name", Text, primary_key=True),
    Column("thing", Text),
    UniqueConstraint("tenant", "thing", name="one_each"),
)
ADD = THINGS.insert().values(name=bindparam("name"), size=bindparam("size"))
ADD_PART = PARTS.insert().values(name=bindparam("name"), thing=bindparam("thing"))
SIZE = select(THINGS.c.size).where(THINGS.c.name == bindparam("name"))
WIDEN = (
    THINGS.update()
    .where(THINGS.c.name == bindparam("name"))
    .values(size=THINGS.c.size + bindparam("by"))
)
ALL = select(THINGS.c.name, THINGS.c.size).order_by(THINGS.c.name)
COUNT = select(func.count()).select_from(THINGS)

Handler = Callable[[PostgresDatabase], Awaitable[Any]]


class Taken(Refusal, status=409):
    """The name is taken."""

    name: str


class Bench:
    """The store of a module `shed`, and what its handlers would find around them."""

    def __init__(self, settings: PoolSettings, clock: Clock) -> None:
        self.clock = clock
        self.pool = Pool(settings)
        self.news: list[CommitNews] = []
        tables = {"things": THINGS, "parts": PARTS}
        planner = Planner(module="shed", scoped=True, projections={}, schema="shed")
        self.store = PostgresStore(
            self.pool, "shed", planner, clock, tables=tables, on_commit=self.news.append
        )
        self.db = PostgresDatabase(self.store)
        self.begun = 0
        self._ids = RandomIds(7)
        self._stops = Stops()
        self._host = SimpleNamespace(reruns=Turns())

    async def make(self) -> None:
        """The platform's tables and the module's."""

        async def create(connection: Any) -> None:
            await create_platform_tables(connection, "shed")
            for table in (THINGS, PARTS):
                placed = table.to_metadata(MetaData(), schema="shed")
                dialect = TableDialect()  # type: ignore[no-untyped-call]
                await connection.execute(str(CreateTable(placed).compile(dialect=dialect)))

        await PoolSession(self.pool, "shed").write(create)
        await self.store.start()

    def message(self, kind: Kind = Kind.COMMAND, timeout_s: float = 10.0) -> Message:
        """A message that nothing has been done for yet."""
        envelope = Envelope(
            id=self._ids.hex(128),
            kind=kind,
            target="shed.tidy",
            payload=None,
            principal=OPERATOR,
            tenant="main",
            trace=TraceContext(trace_id="1" * 32, span_id="1" * 16),
            at=datetime.now(UTC),
        )
        message = Message(envelope, kind, "shed", time.monotonic() + timeout_s, None)
        message.host = self._host
        return message

    async def carry(
        self,
        handler: Handler,
        *,
        change: Callable[[Unit], None] = lambda _: None,
        timeout_s: float = 10.0,
        message: Message | None = None,
    ) -> UnitResult:
        """Run a handler to its commit, as the path does. `change` prepares each unit of work."""
        message = message or self.message(timeout_s=timeout_s)
        carried = message

        def make_unit() -> Unit:
            unit = Unit(carried.envelope.id, "main", carried.deadline)
            change(unit)
            return unit

        def begin() -> Coroutine[Any, Any, Any]:
            self.begun += 1

            async def run() -> Any:
                return await handler(self.db)

            return run()

        limit = Limit(timeout_s)
        return await limit.run(
            handle_in_unit(message, make_unit, begin, self.store, self._ids, self._stops)
        )

    async def ask(self, statement: Any, **parameters: Any) -> Any:
        """What a query of the module reads."""
        token = CURRENT.set(self.message(Kind.QUERY))
        try:
            return await self.db.value(statement, **parameters)
        finally:
            CURRENT.reset(token)

    async def sql(self, text: str, *values: Any) -> Any:
        """One value, past everything."""
        return await self.store.session.read(lambda c: c.fetchval(text, *values))


def event(name: str = "shed.Tidied", key: str | None = "k") -> EventRecord:
    """An event on its way."""
    return EventRecord(
        message_id=name, name=name, tenant="main", order_key=key, at=datetime.now(UTC), body=b"{}"
    )


def entry(unique: str | None = None, run_at: datetime | None = None) -> QueueEntry:
    """A job on its way."""
    return QueueEntry(
        message_id="m",
        handler="job",
        tenant="main",
        body=b"{}",
        unique_key=unique,
        run_at=run_at,
    )


def reply_key(clock: Clock, key: str = "k-1") -> ReplyKey:
    """A keyed command's, for a day."""
    return ReplyKey(
        scope="s", key=key, fingerprint=b"f", expires_at=clock.now() + timedelta(days=1)
    )


@asynccontextmanager
async def opened(
    url: str, clock: Clock | None = None, *, make: bool = True, **settings: Any
) -> AsyncIterator[Bench]:
    """A bench on a database, closed at the end."""
    bench = Bench(PoolSettings(url=url, **settings), clock or SystemClock())
    try:
        if make:
            await bench.make()
        else:
            await bench.store.start()
        yield bench
    finally:
        await bench.pool.close(2.0)


def inbox(message_id: str = "m-1") -> InboxKey:
    """The key of a message's effect."""
    return InboxKey(message_id=message_id, handler="h", generation=1)
