"""The log, its transfer and the lead behind a pooler that changes sessions between transactions."""

from __future__ import annotations

import asyncio

import pytest

from tenfold.adapters.postgres.generations import PostgresGenerations
from tenfold.adapters.postgres.horizon import keep_order
from tenfold.adapters.postgres.leader import Leadership
from tenfold.adapters.postgres.outbox import PostgresOutbox
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.adapters.postgres.session import PoolSession
from tenfold.adapters.postgres.transfer import PostgresTransfer
from tenfold.adapters.postgres.wakeups import Wakeups
from tenfold.ports.clock import SystemClock
from tenfold.testing.outbox_suite import event
from tenfold.testing.transfer_suite import WORK
from tests.conformance.postgres_log import Connection, LogBench, insert_events
from tests.unit.postgres.test_generations import history

PLACE = """
INSERT INTO shop.tenfold_positions (handler, generation, source, seq)
VALUES ('work', 1, 'orders', 0)
"""
pytestmark = pytest.mark.anyio


async def test_events_are_published_and_carried_behind_a_pooler(pgbouncer_url: str) -> None:
    clock = SystemClock()
    pool = Pool(PoolSettings(url=pgbouncer_url, size=3, pooler="transaction"))
    orders, shop = PoolSession(pool, "orders"), PoolSession(pool, "shop")
    for session, name in ((orders, "orders"), (shop, "shop")):

        async def make(connection: Connection, name: str = name) -> None:
            await create_platform_tables(connection, name)
            await keep_order(connection, name)

        await session.write(make)
    place = (
        "INSERT INTO shop.tenfold_positions (handler, generation, source, seq) VALUES ($1,1,$2,0)"
    )
    await shop.write(lambda c: c.execute(place, "work", "orders"))
    maker = LogBench(pgbouncer_url)
    await orders.write(lambda c: insert_events(c, '"orders"', [event("a", maker)]))
    transfer = PostgresTransfer(shop, '"orders"', "orders", clock)
    async with asyncio.timeout(10):
        while not (await transfer.carry([WORK], 0, 100)).added:
            await asyncio.sleep(0.01)
    outbox = PostgresOutbox(orders, clock)
    assert [row.message_id for row in (await outbox.read(0, ["Placed"], 9)).rows] == ["a"]
    assert await outbox.count(["Placed"], 0, 2**62, 9) == 1
    generations = PostgresGenerations(shop, "shop", {"past": [history()]})
    assert await shop.read(generations.ensure) == []
    await generations.swap("past", await generations.begin("past"))
    assert await generations.tidy() == []
    wakeups = Wakeups(pool)
    await wakeups.listen(lambda _: None)  # polling has to do
    wakeups.tell("orders")
    async with asyncio.timeout(10):
        while not wakeups.statistics().sent:
            await asyncio.sleep(0.01)
    await wakeups.close()
    await pool.close()


async def test_the_lead_is_held_and_handed_over_behind_a_pooler(pgbouncer_url: str) -> None:
    led = [asyncio.Event(), asyncio.Event()]

    async def lost() -> None: ...

    async def gained(n: int) -> None:
        led[n].set()

    both = [
        Leadership(pgbouncer_url, gained=lambda n=n: gained(n), lost=lost, pooled=True)  # type: ignore[misc]
        for n in range(2)
    ]
    for each in both:
        await each.start()
    async with asyncio.timeout(10):
        await led[0].wait()
        await asyncio.sleep(0.7)
        assert [each.leading for each in both] == [True, False]
        await both[0].stop()
        await led[1].wait()
    await both[1].stop()
