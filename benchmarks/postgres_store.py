"""Units of work and reads on PostgreSQL, beside asyncpg written by hand, on the same server.

python -m benchmarks.postgres_store [--rounds N]

What is counted is the processor time of the client: the server's is the same on
both sides, and round trips show in it as well. By hand means asyncpg's pool, one
transaction for what belongs together, and the same rows: the thing, an outbox
row, and the reply under its key. Ours runs the handler as the path does, with
its deadline, and has the tenant in every statement.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import asyncpg
import msgspec
import uvloop
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, select
from sqlalchemy.schema import CreateTable

from benchmarks.measure import Figure, Noise
from benchmarks.servers.postgres import fresh_database, postgres_server
from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.adapters.postgres.dialect import TableDialect
from tenfold.adapters.postgres.planner import Planner
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.store import PostgresStore
from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.path.handle import handle_in_unit
from tenfold.path.limit import Limit
from tenfold.path.stops import Stops
from tenfold.path.turns import Turns
from tenfold.ports.clock import RandomIds, SystemClock
from tenfold.ports.records import EventRecord, ReplyKey
from tenfold.ports.unit import CURRENT, Message, Unit
from tenfold.tables.columns import metadata, tenant

__all__ = ["main"]

UNITS = 2_000
TABLES = metadata()
THINGS = Table(
    "things",
    TABLES,
    tenant(),
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("size", Integer, nullable=False),
)
ADD = THINGS.insert().values(id=bindparam("id"), name=bindparam("name"), size=bindparam("size"))
READ = select(THINGS.c.id, THINGS.c.name, THINGS.c.size).where(THINGS.c.id == bindparam("id"))
HAND_ADD = "INSERT INTO shed.things (tenant, id, name, size) VALUES ($1, $2, $3, $4)"
HAND_EVENT = """
INSERT INTO shed.tenfold_outbox (seq, at, message_id, name, tenant, order_key, body)
VALUES (pg_current_xact_id()::text::bigint * 65536 + 1, $1, $2, $3, $4, $5, $6)
"""
HAND_REPLY = """
INSERT INTO shed.tenfold_replies (expires_at, position, scope, key, fingerprint, body)
VALUES ($1, 0, $2, $3, $4, $5)
"""
HAND_READ = "SELECT id, name, size FROM shed.things WHERE tenant = $1 AND id = $2"
BODY = b"x" * 300


class _Ours:
    """The store, driven as the path drives it."""

    def __init__(self, url: str) -> None:
        self.pool = Pool(PoolSettings(url=url, size=16))
        planner = Planner(module="shed", scoped=True, projections={}, schema="shed")
        self.store = PostgresStore(
            self.pool, "shed", planner, SystemClock(), tables={"things": THINGS}
        )
        self.db = PostgresDatabase(self.store)
        self._ids = RandomIds()
        self._stops = Stops()
        self._host = SimpleNamespace(reruns=Turns())
        self._encode = msgspec.msgpack.Encoder().encode

    def _message(self, kind: Kind) -> Message:
        envelope = Envelope(
            id=self._ids.hex(128),
            kind=kind,
            target="shed.add",
            payload=None,
            principal=OPERATOR,
            tenant="main",
            trace=TraceContext(trace_id="1" * 32, span_id="1" * 16),
            at=datetime.now(UTC),
        )
        message = Message(envelope, kind, "shed", time.monotonic() + 30.0, None)
        message.host = self._host
        return message

    async def _carry(
        self, handler: Callable[[Message], Coroutine[Any, Any, Any]], key: ReplyKey | None
    ) -> None:
        message = self._message(Kind.COMMAND)

        def make_unit() -> Unit:
            unit = Unit(message.envelope.id, "main", message.deadline)
            if key is not None:
                unit.reply_key = key
                unit.encode_reply = self._encode
            return unit

        work = handle_in_unit(
            message, make_unit, lambda: handler(message), self.store, self._ids, self._stops
        )
        await Limit(30.0).run(work)

    def _publish(self, message: Message, id_: str) -> None:
        assert message.unit is not None
        message.unit.events.append(_event(id_))

    async def folded(self, id_: str) -> None:
        """One insert that is handed over, one event, one reply under a key."""

        async def handler(message: Message) -> str:
            self.db.buffer(ADD, id=id_, name="a thing", size=1)
            self._publish(message, id_)
            return id_

        await self._carry(handler, _key(id_))

    async def awaited(self, id_: str) -> None:
        """One insert that is awaited, one event."""

        async def handler(message: Message) -> str:
            await self.db.execute(ADD, id=id_, name="a thing", size=1)
            self._publish(message, id_)
            return id_

        await self._carry(handler, None)

    async def read(self, id_: str) -> None:
        """One row, as a query's handler reads it."""
        token = CURRENT.set(self._message(Kind.QUERY))
        try:
            row = await self.db.one(READ, id="one")
            assert row.size == 1
        finally:
            CURRENT.reset(token)

    async def close(self) -> None:
        await self.pool.close()


class _ByHand:
    """asyncpg, its pool, and statements written out."""

    def __init__(self, pool: asyncpg.Pool[Any]) -> None:
        self._pool = pool

    async def folded(self, id_: str) -> None:
        """The insert, the event and the reply, in a transaction."""
        e, key = _event(id_), _key(id_)
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="serializable"),
        ):
            await connection.execute(HAND_ADD, "main", id_, "a thing", 1)
            await connection.execute(
                HAND_EVENT, e.at, e.message_id, e.name, e.tenant, e.order_key, e.body
            )
            await connection.execute(
                HAND_REPLY, key.expires_at, key.scope, key.key, key.fingerprint, id_.encode()
            )

    async def awaited(self, id_: str) -> None:
        """The insert and the event, in a transaction."""
        e = _event(id_)
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="serializable"),
        ):
            await connection.execute(HAND_ADD, "main", id_, "a thing", 1)
            await connection.execute(
                HAND_EVENT, e.at, e.message_id, e.name, e.tenant, e.order_key, e.body
            )

    async def read(self, id_: str) -> None:
        """One row."""
        async with self._pool.acquire() as connection:
            row = await connection.fetchrow(HAND_READ, "main", "one")
        assert row["size"] == 1

    async def close(self) -> None:
        await self._pool.close()


def _event(id_: str) -> EventRecord:
    return EventRecord(
        message_id=id_,
        name="shed.Added",
        tenant="main",
        order_key=id_,
        at=datetime.now(UTC),
        body=BODY,
    )


def _key(id_: str) -> ReplyKey:
    return ReplyKey(
        scope="operator main shed.add",
        key=id_,
        fingerprint=b"f" * 32,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )


async def _prepare(url: str) -> None:
    pool = Pool(PoolSettings(url=url))

    async def create(connection: Any) -> None:
        await create_platform_tables(connection, "shed")
        dialect = TableDialect()  # type: ignore[no-untyped-call]
        placed = THINGS.to_metadata(MetaData(), schema="shed")
        await connection.execute(str(CreateTable(placed).compile(dialect=dialect)))
        await connection.execute(HAND_ADD, "main", "one", "a thing", 1)

    await PoolSession(pool, "shed").write(create)
    await pool.close()


async def _measure(url: str, side: str, what: str, at_once: int) -> tuple[float, float]:
    """Processor time of one unit, and time of one unit, in microseconds."""
    made: Any
    if side == "ours":
        made = _Ours(url)
        await made.store.start()
    else:
        made = _ByHand(await asyncpg.create_pool(url, min_size=1, max_size=16))
    work: Callable[[str], Awaitable[None]] = getattr(made, what)

    async def several(numbers: Any) -> None:
        for _ in numbers:
            await work(secrets.token_hex(8))

    async def all_of(count: int) -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(several(numbers) for _ in range(at_once)))

    await all_of(200)  # connections made, statements prepared
    cpu, wall = time.process_time(), time.perf_counter()
    await all_of(UNITS)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await made.close()
    return cpu / UNITS * 1e6, wall / UNITS * 1e6


NAMES = {
    "folded": "one insert, one event, one reply, all handed over",
    "awaited": "one awaited insert, one event",
    "read": "one row read",
}


def main() -> None:
    """Measure on a fresh database, and print both sides."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres_store")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    noise = Noise()
    found: dict[tuple[str, str], list[float]] = {}
    clock: dict[tuple[str, str], list[float]] = {}
    with postgres_server() as server, fresh_database(server) as url:
        asyncio.run(_prepare(url))
        for number in range(given.rounds):
            noise.probe()
            for what in NAMES:
                sides = ("ours", "by hand") if number % 2 else ("by hand", "ours")
                for side in sides:
                    cpu, wall = uvloop.run(_measure(url, side, what, given.at_once))
                    found.setdefault((what, side), []).append(cpu)
                    clock.setdefault((what, side), []).append(wall)
    for what, said in NAMES.items():
        for side in ("ours", "by hand"):
            print(Figure(f"{said}: {side}", "us of CPU", found[what, side]).line())
        ratios = [a / b for a, b in zip(found[what, "by hand"], found[what, "ours"], strict=True)]
        print(Figure("  by hand / ours, round by round", "x", ratios).line())
        waits = [a / b for a, b in zip(clock[what, "by hand"], clock[what, "ours"], strict=True)]
        print(Figure("  the same by the clock", "x", waits).line())
    print(noise.line())
    if given.json:
        print(json.dumps({f"{what} {side}": v for (what, side), v in found.items()}))


if __name__ == "__main__":
    main()
