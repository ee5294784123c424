"""Modules' schemas on a real PostgreSQL, for the suites of the log and of what carries it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import asyncpg

from tenfold.adapters.postgres.horizon import HORIZON, keep_order
from tenfold.adapters.postgres.outbox import PostgresOutbox
from tenfold.adapters.postgres.schema import create_platform_tables, quoted
from tenfold.ports.clock import Clock
from tenfold.ports.records import EventRecord, ReplyKey
from tenfold.testing.clock import HeldClock

T = TypeVar("T")
Connection = Any

INSERT_EVENTS = """
INSERT INTO {s}.tenfold_outbox (seq, at, message_id, name, tenant, order_key, body)
SELECT (pg_current_xact_id()::text::bigint
        + (SELECT value::bigint FROM {s}.tenfold_meta WHERE key = 'xid_offset')) * 65536 + e.n,
    e.at, e.message_id, e.name, e.tenant, e.order_key, e.body
FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
    WITH ORDINALITY AS e(at, message_id, name, tenant, order_key, body, n)
"""
INSERT_REPLY = """
INSERT INTO {s}.tenfold_replies (scope, key, fingerprint, expires_at, position, body)
VALUES ($1, $2, $3, $4, $5, $6)
"""
FORGET_REPLY = """
DELETE FROM {s}.tenfold_replies WHERE scope = $1 AND key = $2 AND expires_at <= $3
"""


class OwnSession:
    """The session over one module's schema, on connections of its own."""

    def __init__(self, url: str, schema: str) -> None:
        self.url = url
        self.schema = quoted(schema)
        self.name = schema
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []

    async def connect(self) -> Connection:
        made = await asyncpg.connect(self.url, server_settings={"jit": "off"})
        self._connections.append(made)
        return made

    async def write(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        connection = self._idle.pop() if self._idle else await self.connect()
        try:
            async with connection.transaction():
                return await work(connection)
        finally:
            self._idle.append(connection)

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        connection = self._idle.pop() if self._idle else await self.connect()
        try:
            return await work(connection)
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        for connection in self._connections:
            await connection.close()


async def insert_events(connection: Connection, schema: str, events: Sequence[EventRecord]) -> None:
    """Append events in the caller's transaction, as a unit of work does. `schema` is quoted."""
    columns: list[list[Any]] = [
        [e.at for e in events],
        [e.message_id for e in events],
        [e.name for e in events],
        [e.tenant for e in events],
        [e.order_key for e in events],
        [e.body for e in events],
    ]
    await connection.execute(INSERT_EVENTS.format(s=schema), *columns)


class LogBench:
    """What the suites of `Outbox` and `Replies` ask for, over one schema."""

    def __init__(self, url: str, clock: Clock | None = None, schema: str = "shop") -> None:
        self.clock = clock or HeldClock()
        self.session = OwnSession(url, schema)
        self.schema = schema
        self.outbox = PostgresOutbox(self.session, self.clock)

    async def open(self) -> None:
        connection = await self.session.connect()
        await create_platform_tables(connection, self.schema)
        await keep_order(connection, self.schema)

    def another_outbox(self) -> PostgresOutbox:
        return PostgresOutbox(self.session, self.clock)

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Commit, and wait for whoever else writes on this server: other tests may do."""
        await self.commit(events)
        await self.settled()

    async def commit(self, events: Sequence[EventRecord]) -> None:
        await self.session.write(lambda c: insert_events(c, self.session.schema, events))

    async def settled(self) -> None:
        """Until everything that is committed is below the horizon."""
        newest = f"SELECT max(seq) FROM {self.session.schema}.tenfold_outbox"
        horizon = f"SELECT {HORIZON.format(s=self.session.schema)}"
        until = await self.session.read(lambda c: c.fetchval(newest)) or 0
        while await self.session.read(lambda c: c.fetchval(horizon)) <= until:
            await asyncio.sleep(0.002)

    async def store_reply(self, key: ReplyKey, body: bytes, position: int) -> None:
        schema = self.session.schema

        async def work(c: Connection) -> None:
            now = self.clock.now()
            await c.execute(FORGET_REPLY.format(s=schema), key.scope, key.key, now)
            row = (key.scope, key.key, key.fingerprint, key.expires_at, position, body)
            await c.execute(INSERT_REPLY.format(s=schema), *row)

        await self.session.write(work)

    async def close(self) -> None:
        await self.session.close()
