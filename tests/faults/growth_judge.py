"""The judge of a fleet: what clients were told against what PostgreSQL and the modules say."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import asyncpg

from store.invariants import Books, broken_invariants, read_modules
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import OrderCounts, Orders
from store.payments.contract import Payments
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.host import Host
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.roles import Role
from tenfold.runtimes.topology import Product, load_product
from tenfold.runtimes.wiring import Wiring
from tests.faults.growth_load import Naive
from tests.faults.growth_store import GrowthStore
from tests.faults.journal import Journal
from tests.faults.judge import MODULES, SCHEDULES, Held, contradictions
from tests.faults.store_process import STORE

__all__ = [
    "await_fleet_settled",
    "decide_lives",
    "decide_steps",
    "decide_trail",
    "fleet_complaints",
    "judge_books",
    "read_books",
]

_MODULES = (*MODULES, "registers")
_ENDS = {"orders.OrderConfirmed", "orders.OrderRejected"}


def _product(store: GrowthStore) -> Product:
    return load_product(store.file, "growth", environ=store.environ)


def _feeds(product: Product) -> dict[str, list[Any]]:
    shapes = {name: read_module(name, cls) for name, cls in product.modules.items()}
    wiring = Wiring(shapes, SystemClock())
    return {
        name: [feed for group in wiring.feeds(name).values() for feed in group] for name in shapes
    }


def await_fleet_settled(
    store: GrowthStore, still_s: float = 60.0, within_s: float = 900.0
) -> list[str]:
    """What is unfinished when nothing moves any more; empty where all is done.

    A slow machine may take long over what a fault left behind, and that is no
    complaint: it is one that nothing has changed for `still_s`.
    """

    async def wait() -> list[str]:
        product = _product(store)
        feeds = _feeds(product)
        connection = await asyncpg.connect(product.topology.database.url)
        try:
            moved_s = began_s = time.monotonic()
            before: list[str] = []
            while left := await _unfinished(connection, feeds):
                now_s = time.monotonic()
                if left != before:
                    before, moved_s = left, now_s
                if now_s - moved_s > still_s or now_s - began_s > within_s:
                    return left[:20]
                await asyncio.sleep(0.1)
            return []
        finally:
            await connection.close()

    return asyncio.run(wait())


async def _unfinished(connection: asyncpg.Connection, feeds: Mapping[str, list[Any]]) -> list[str]:
    found = []
    for module in _MODULES:
        entries = await connection.fetch(
            "SELECT id, handler, waits, attempts, last_error"
            f" FROM {module}.tenfold_queue WHERE waits > 0 ORDER BY id"
        )
        found += [f"{module}: waits {tuple(row)}" for row in entries if row[1] not in SCHEDULES]
        for feed in feeds[module]:
            behind = await connection.fetchval(
                f"SELECT count(*) FROM {feed.source}.tenfold_outbox WHERE name = ANY($1)"
                f" AND seq > coalesce((SELECT max(seq) FROM {module}.tenfold_positions"
                " WHERE handler = $2 AND generation = 1 AND source = $3), 0)",
                list(feed.events),
                feed.handler,
                feed.source,
            )
            if behind:
                found.append(f"{module}: {feed.handler} has {behind} events of {feed.source} ahead")
    return found


def fleet_complaints(journal: Journal, naive: Mapping[str, Naive], store: GrowthStore) -> list[str]:
    """What is not as it must be, one sentence each. The store runs and is settled."""
    held, found = asyncio.run(_ask(journal, naive, store))
    return [*found, *contradictions(journal, store.port, held, store.data)]


async def _ask(
    journal: Journal, naive: Mapping[str, Naive], store: GrowthStore
) -> tuple[Held, list[str]]:
    product = _product(store)
    connection = await asyncpg.connect(product.topology.database.url)
    try:
        stock = await connection.fetch("SELECT product_id, received FROM inventory.stock")
        held = Held(
            orders=await connection.fetchval("SELECT count(*) FROM orders.orders"),
            products=await connection.fetchval("SELECT count(*) FROM catalog.products"),
            received={row[0].hex: row[1] for row in stock},
        )
        found = [
            *broken_invariants(await read_books(product)),
            *[text async for text in _dead_letters(connection)],
            *decide_steps(
                journal, naive, await _rows(connection, "SELECT name, value FROM {}registers")
            ),
            *decide_trail(
                await _rows(connection, "SELECT name, number, after FROM {}trail"),
                await _rows(connection, "SELECT name, value FROM {}registers"),
            ),
            *decide_lives(
                await connection.fetch(
                    "SELECT order_key, name FROM orders.tenfold_outbox ORDER BY seq"
                )
            ),
            *await _mails(connection),
        ]
    finally:
        await connection.close()
    return held, found


async def _rows(connection: asyncpg.Connection, statement: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(statement.format("registers."))]


async def read_books(product: Product) -> Books:
    """What the modules themselves say, through their contracts, of a store that is idle."""
    host = Host(product, data_dir=product.data_dir)
    await host.start(Role.LOOK)
    try:
        return await read_modules(
            host.proxy(Inventory),
            host.proxy(Orders),
            host.proxy(Payments),
            host.proxy(Notifications),
        )
    finally:
        await host.stop(drain_s=2.0)


async def judge_books(url: str) -> tuple[OrderCounts, list[str]]:
    """How many orders a store at rest has, and what is wrong with its books and orders."""
    books = await read_books(load_product(STORE, "growth", environ={"TENFOLD_DATABASE_URL": url}))
    connection = await asyncpg.connect(url)
    try:
        events = await connection.fetch(
            "SELECT order_key, name FROM orders.tenfold_outbox ORDER BY seq"
        )
    finally:
        await connection.close()
    return books.counts, [*broken_invariants(books), *decide_lives(events)]


async def _dead_letters(connection: asyncpg.Connection) -> Any:
    for module in _MODULES:
        for row in await connection.fetch(
            f"SELECT handler, attempts, last_error FROM {module}.tenfold_queue WHERE waits = 0"
        ):
            yield f"{module}: {row[0]} is dead after {row[1]} attempts: {row[2]}"


def decide_steps(
    journal: Journal, naive: Mapping[str, Naive], held: list[tuple[Any, ...]]
) -> Iterator[str]:
    """Every step that was told is there once; one that was told as not done is not there."""
    values = dict(held)
    told: dict[str, list[int]] = defaultdict(list)
    for sent in journal.told("step"):
        told[sent.path.rpartition("/")[2]].append(sent.reply["value"])
    for name, numbers in told.items():
        if sorted(numbers) != list(range(1, values.get(name, 0) + 1)):
            yield (
                f"register {name} holds {values.get(name)}; {len(numbers)} keys were answered, "
                f"{len(set(numbers))} numbers told"
            )
    for name, seen in naive.items():
        value = values.get(name, 0)
        if len(set(seen.told)) != len(seen.told) or max(seen.told, default=0) > value:
            yield f"register {name} holds {value}, and numbers were told twice or are gone"
        if value - len(seen.told) > seen.maybe:
            yield (
                f"register {name} holds {value}: {len(seen.told)} steps were told as done and "
                f"{seen.maybe} may be, so that steps are there which were told as not done"
            )


def decide_trail(heard: list[tuple[Any, ...]], held: list[tuple[Any, ...]]) -> Iterator[str]:
    """The steps of each register were heard once each, and in their order."""
    numbers: dict[str, Counter[int]] = defaultdict(Counter)
    for name, number, after in heard:
        numbers[name][number] += 1
        if after != number - 1:
            yield f"step {number} of {name} was heard after step {after}"
    for name, value in held:
        wanted = Counter(range(1, value + 1))
        if numbers[name] != wanted:
            yield (
                f"of {name}, steps were not heard: {sorted(wanted - numbers[name])[:5]}, "
                f"heard again: {sorted(numbers[name] - wanted)[:5]}"
            )


def decide_lives(events: list[Any]) -> Iterator[str]:
    """The log has each order placed first, then confirmed or rejected, once."""
    lives: dict[str, list[str]] = defaultdict(list)
    for key, name in events:
        lives[key].append(name)
    for order, names in lives.items():
        if len(names) != 2 or names[0] != "orders.OrderPlaced" or names[1] not in _ENDS:
            yield f"order {order} has the events {names}"


async def _mails(connection: asyncpg.Connection) -> list[str]:
    wrong = await connection.fetch(
        "SELECT o.id, o.status, count(m.id) FROM orders.orders o"
        " LEFT JOIN notifications.mails m ON m.order_id = o.id GROUP BY 1, 2"
        " HAVING count(m.id) <> CASE o.status WHEN 'confirmed' THEN 1 ELSE 0 END"
    )
    return [f"order {row[0]} is {row[1]} and has {row[2]} mails" for row in wrong]
