"""Outbox to queue on PostgreSQL, beside the best that hand-written SQL does on the same server.

python -m benchmarks.relay_postgres [--rounds N]

Both sides carry the same events from the same outbox table into the same queue
table with its indexes, `synchronous_commit` on. The hand-written side has what
any relay needs, and no more: a stored position, its row locked, moved with the
entries. Ours adds the horizon, lanes, several relays at once, and the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import time
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.measure import Figure, Noise
from benchmarks.servers.postgres import postgres_server
from tenfold.adapters.postgres.outbox import PostgresOutbox
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.queue import PostgresQueue
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.transfer import PostgresTransfer
from tenfold.path.relay import Feed, Relay, RelayParts
from tenfold.path.stops import Stop
from tenfold.ports.clock import SystemClock

__all__ = ["main"]

EVENTS = 120_000
FILL = """
INSERT INTO orders.tenfold_outbox (seq, at, message_id, name, tenant, order_key, body)
SELECT pg_current_xact_id()::text::bigint * 65536 + n, clock_timestamp(),
    gen_random_uuid()::text, 'orders.Placed', 'main', 'order-' || ($1 + n) % 1000,
    convert_to(repeat('x', 300), 'UTF8')
FROM generate_series(1, $2) AS n
"""
# The limit is written out and the plan the same, so that both sides read the log alike.
HAND = """
WITH place AS MATERIALIZED (
    SELECT seq FROM shop.tenfold_positions WHERE handler = 'reserve' FOR UPDATE
),
added AS (
    INSERT INTO shop.tenfold_queue (waits, run_at, priority, lane, handler, generation, tenant,
        message_id, source, source_seq, body)
    SELECT 1, now(), 0, order_key, 'reserve', 1, tenant, message_id, 'orders', seq, body
    FROM orders.tenfold_outbox WHERE seq > (SELECT seq FROM place) ORDER BY seq LIMIT 2000
    RETURNING source_seq
),
newest AS (SELECT max(source_seq) AS seq, count(*) AS n FROM added),
moved AS (
    UPDATE shop.tenfold_positions SET seq = newest.seq FROM newest
    WHERE handler = 'reserve' AND newest.n > 0
)
SELECT n FROM newest
"""
RESET = """
TRUNCATE shop.tenfold_queue;
UPDATE shop.tenfold_positions SET seq = 0
"""


class _Silent:
    """A worker that has nothing to do."""

    resting = True

    def __init__(self) -> None:
        self.moved = self

    def wake(self) -> None: ...

    def fire(self) -> None: ...


class Server:
    """A database of its own on the server, and both sides over it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pool = Pool(PoolSettings(url=url, size=6))
        self.connections: list[Any] = []

    async def connect(self) -> Any:
        made = await asyncpg.connect(self.url, server_settings={"jit": "off"})
        self.connections.append(made)
        return made

    async def open(self) -> None:
        self.admin = await self.connect()
        for module in ("orders", "shop"):
            await create_platform_tables(self.admin, module)
        assert await self.admin.fetchval("SHOW synchronous_commit") == "on"
        await self.admin.execute(
            "INSERT INTO shop.tenfold_positions (handler, generation, source, seq)"
            " VALUES ('reserve', 1, 'orders', 0)"
        )

    async def close(self) -> None:
        for each in self.connections:
            await each.close()
        await self.pool.close()

    async def fill(self, events: int) -> None:
        for first in range(0, events, 1000):
            await self.admin.execute(FILL, first, min(1000, events - first))

    async def empty(self) -> None:
        await self.admin.execute("TRUNCATE orders.tenfold_outbox")
        await self.admin.execute(RESET)

    async def reset(self) -> None:
        await self.admin.execute(RESET)
        await self.admin.execute("VACUUM ANALYZE orders.tenfold_outbox")
        await self.admin.execute("CHECKPOINT")

    async def queued(self) -> int:
        return int(await self.admin.fetchval("SELECT count(*) FROM shop.tenfold_queue"))

    def relay(self) -> Relay:
        clock = SystemClock()
        shop = PoolSession(self.pool, "shop")
        orders = PostgresOutbox(PoolSession(self.pool, "orders"), clock)
        worker: Any = _Silent()
        return Relay(
            RelayParts(
                module="shop",
                queue=PostgresQueue(shop, clock),
                sources={"orders": orders},
                worker=worker,
                clock=clock,
                stop=Stop("relay"),
                transfers={"orders": PostgresTransfer(shop, '"orders"', "orders", clock)},
            ),
            [Feed(handler="reserve", source="orders", events=("orders.Placed",))],
        )


async def carry(relay: Relay) -> None:
    """Until everything is carried; whoever else writes on this server is waited for."""
    while await relay.step() or relay.behind:
        pass


async def ours(server: Server) -> float:
    """Events a second by the relay."""
    await server.reset()
    relay = server.relay()
    began = time.perf_counter()
    await carry(relay)
    took_s = time.perf_counter() - began
    assert await server.queued() == EVENTS
    return EVENTS / took_s


async def by_hand(server: Server) -> float:
    """Events a second by one statement again and again."""
    await server.reset()
    connection = server.admin
    await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
    began = time.perf_counter()
    while await connection.fetchval(HAND):
        pass
    took_s = time.perf_counter() - began
    await connection.execute("RESET enable_seqscan; RESET enable_bitmapscan")
    assert await server.queued() == EVENTS
    return EVENTS / took_s


async def with_a_writer_open(server: Server) -> list[Figure]:
    """What waits behind a forgotten transaction that wrote, and how it is made up for."""
    await server.empty()
    await server.fill(EVENTS)
    slow = await server.connect()
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("SELECT pg_current_xact_id()")
    before = await ours(server)
    behind = EVENTS // 4
    await server.fill(behind)
    relay = server.relay()
    began = time.perf_counter()
    await relay.step()
    look_ms = (time.perf_counter() - began) * 1000
    assert await server.queued() == EVENTS  # nothing of what was committed behind it
    await transaction.rollback()
    began = time.perf_counter()
    await carry(relay)
    after = behind / (time.perf_counter() - began)
    assert await server.queued() == EVENTS + behind
    return [
        Figure("relay, a writer left open: what was below its number", "events/s", [before]),
        Figure("  one look at a log of which 30,000 events wait", "ms", [look_ms]),
        Figure("  what had waited, once it had ended", "events/s", [after]),
    ]


async def measure(url: str, rounds: int, noise: Noise) -> list[Figure]:
    """All figures, over a database of their own."""
    name = f"tenfold_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(url)
    await admin.execute(f"CREATE DATABASE {name}")
    server = Server(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))
    try:
        await server.open()
        await server.fill(EVENTS)
        sides = {"ours": ours, "hand": by_hand}
        values: dict[str, list[float]] = {"ours": [], "hand": [], "reader": []}
        for number in range(rounds):
            noise.probe()
            order = ["ours", "hand"] if number % 2 == 0 else ["hand", "ours"]
            for side in order:
                values[side].append(await sides[side](server))
            reader = await server.connect()
            async with reader.transaction(isolation="repeatable_read"):
                await reader.fetchval("SELECT count(*) FROM shop.tenfold_positions")
                values["reader"].append(await ours(server))
        ratios = [a / b for a, b in zip(values["ours"], values["hand"], strict=True)]
        return [
            Figure("outbox to queue, the relay", "events/s", values["ours"], "30,000"),
            Figure("outbox to queue, hand-written SQL", "events/s", values["hand"]),
            Figure("  the relay against hand-written SQL", "x", ratios, "0.5"),
            Figure("relay, a reader's snapshot left open", "events/s", values["reader"], "30,000"),
            *await with_a_writer_open(server),
        ]
    finally:
        await server.close()
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await admin.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    noise = Noise()
    with postgres_server() as url:
        for figure in asyncio.run(measure(url, given.rounds, noise)):
            print(figure.line())
    print(noise.line())


if __name__ == "__main__":
    main()
