"""Two processes relay at once, one of them is killed; publishers commit out of order meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from tenfold.testing.outbox_suite import event
from tests.conformance.postgres_log import LogBench, insert_events

RELAY = """
import asyncio, sys
from types import SimpleNamespace
from tenfold.adapters.postgres.outbox import PostgresOutbox
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.queue import PostgresQueue
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.transfer import PostgresTransfer
from tenfold.path.relay import Feed, Relay, RelayLimits, RelayParts
from tenfold.path.stops import Stop
from tenfold.ports.clock import SystemClock

async def main():
    clock, pool = SystemClock(), Pool(PoolSettings(url=sys.argv[1], size=3))
    shop, orders = PoolSession(pool, "shop"), PoolSession(pool, "orders")
    idle = lambda: None
    worker = SimpleNamespace(resting=True, wake=idle, moved=SimpleNamespace(fire=idle))
    relay = Relay(RelayParts(
        module="shop", queue=PostgresQueue(shop, clock), worker=worker, clock=clock,
        sources={"orders": PostgresOutbox(orders, clock)}, stop=Stop("relay"),
        transfers={"orders": PostgresTransfer(shop, '"orders"', "orders", clock)},
        limits=RelayLimits(transfer=17, poll_s=0.01),
    ), [Feed(handler="reserve", source="orders", events=("Placed",)),
        Feed(handler="view.see", source="orders", events=("Placed", "Paid"), generation=2)])
    relay.start()
    print("follows", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
KEYS = 5
EVENTS = 1200


def started(url: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RELAY, url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "follows\n"
    return process


async def publisher(source: LogBench, key: int, seed: int) -> list[str]:
    """Publish one key's events in order, in transactions that stay open for a while."""
    chance = random.Random(seed)
    connection = await source.session.connect()
    told: list[str] = []
    while len(told) < EVENTS // KEYS:
        names = [f"{key}:{len(told) + i}" for i in range(chance.randint(1, 8))]
        async with connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(chance.choice((0, 0, 0.001, 0.02)))
            made = [event(name, source, order_key=f"k{key}") for name in names]
            await insert_events(connection, source.session.schema, made)
        told += names
    return told


@pytest.fixture
async def benches(postgres_url: str) -> AsyncIterator[tuple[LogBench, LogBench]]:
    made = (LogBench(postgres_url, schema="orders"), LogBench(postgres_url, schema="shop"))
    for bench in made:
        await bench.open()
    yield made
    for bench in made:
        await bench.close()


@pytest.mark.anyio
async def test_two_processes_relay_each_event_once_and_in_order_per_key(
    benches: tuple[LogBench, LogBench], postgres_url: str, seed: int
) -> None:
    print(f"seed {seed}")
    source, target = benches
    processes = [await asyncio.to_thread(started, postgres_url) for _ in range(2)]
    try:
        publishing = [asyncio.create_task(publisher(source, k, seed + k)) for k in range(KEYS)]
        await asyncio.sleep(0.3)
        processes[0].send_signal(signal.SIGKILL)
        processes.append(await asyncio.to_thread(started, postgres_url))
        told = [name for names in await asyncio.gather(*publishing) for name in names]
        count = "SELECT count(*) FROM shop.tenfold_queue"
        async with asyncio.timeout(20):
            while await target.session.read(lambda c: c.fetchval(count)) < 2 * len(told):
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)  # whatever comes twice would come now
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    for handler in ("reserve", "view.see"):
        rows = await target.session.read(
            lambda c, h=handler: c.fetch(  # type: ignore[misc]
                "SELECT message_id FROM shop.tenfold_queue WHERE handler = $1 ORDER BY id", h
            )
        )
        queued = [row[0] for row in rows]
        assert sorted(queued) == sorted(told)
        for key in range(KEYS):
            mine = [name for name in queued if name.startswith(f"{key}:")]
            assert mine == [name for name in told if name.startswith(f"{key}:")]
