"""Units of work on one module's SQLite file: a write and a read, synced before answered.

Beside them the same statements in a plain loop over `sqlite3`, grouped by 64 as
the writer does it: what the file alone allows.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from benchmarks.measure import Figure, Noise, interleave
from store.catalog.contract import Catalog
from store.inventory.contract import Inventory
from tenfold import Money
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import load_product

__all__ = ["measure"]

UNITS = 2000
AT_ONCE = (1, 64)


def measure(rounds: int, noise: Noise) -> list[Figure]:
    """The store's `receive_stock`, alone and 64 at once, and the plain loop."""
    sides: dict[str, Callable[[], float]] = {
        f"units of work on SQLite, {n} at once": _side(n) for n in AT_ONCE
    }
    sides["the same statements in a plain loop, by 64"] = _plain
    found = interleave(sides, rounds, noise)
    return [Figure(name, "a second", values) for name, values in found.items()]


def _side(at_once: int) -> Callable[[], float]:
    return lambda: uvloop.run(_units(at_once))


async def _units(at_once: int) -> float:
    with tempfile.TemporaryDirectory() as data:
        from benchmarks.processes import STORE

        host = Host(load_product(STORE, "prototype"), data_dir=Path(data))
        await host.start()
        catalog, inventory = host.proxy(Catalog), host.proxy(Inventory)
        price = Money.from_minor(255, "GBP")
        product = await catalog.add_product("A1", "A thing", price)
        await host.idle()
        numbers = iter(range(UNITS if at_once > 1 else UNITS // 4))
        count = 0

        async def work() -> None:
            nonlocal count
            for _ in numbers:
                await inventory.receive_stock(product.id, 1)
                count += 1

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(at_once)))
        took = time.perf_counter() - began
        await host.stop()
        return count / took


def _plain() -> float:
    with tempfile.TemporaryDirectory() as data:
        connection = sqlite3.connect(Path(data) / "plain.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE stock (tenant TEXT, id BLOB, received INTEGER, free INTEGER, "
            "reserved INTEGER, sold INTEGER, PRIMARY KEY (tenant, id))"
        )
        key = ("main", b"0" * 16)
        began = time.perf_counter()
        for start in range(0, UNITS, 64):
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(start, min(start + 64, UNITS)):
                connection.execute("SAVEPOINT unit")
                connection.execute(
                    "INSERT INTO stock VALUES (?, ?, 1, 1, 0, 0) ON CONFLICT (tenant, id) "
                    "DO UPDATE SET received = received + 1, free = free + 1",
                    key,
                )
                connection.execute(
                    "SELECT free, reserved, sold FROM stock WHERE tenant = ? AND id = ?", key
                ).fetchall()
                connection.execute("RELEASE unit")
            connection.execute("COMMIT")
        took = time.perf_counter() - began
        connection.close()
        return UNITS / took
