"""The queue on PostgreSQL: one worker process, beside hand-written SQL, Taskiq and Procrastinate.

python -m benchmarks.queue_postgres [--rounds N] [--jobs N] [--held N]

All jobs are there before the worker starts, enqueued by real transactions; what
is counted is from the first job to the last that is finished. Ours has leases,
attempts, time limits, order by key and unit of work. By hand means the least
that works: a batch is deleted in a transaction that stays open while it is
worked, with one effect each job a statement, sixteen at once. Peers run with
their defaults but for larger prefetch, each with a process and an event loop
like ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import uvloop

from benchmarks.measure import Figure, Noise
from benchmarks.processes import ROOT
from benchmarks.servers import queue_peers
from benchmarks.servers.postgres import queue_servers
from benchmarks.servers.queue_product import Work, make_host
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.wakeups import Wakeups
from tenfold.runtimes.roles import Role

__all__ = ["main"]

HELD = 600_000
STEADY_PER_S = 20_000
HAND_TABLES = """
CREATE SCHEMA IF NOT EXISTS hand;
CREATE TABLE IF NOT EXISTS hand.queue (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, lane text, body bytea
);
CREATE TABLE IF NOT EXISTS hand.effects (number bigint PRIMARY KEY);
TRUNCATE hand.queue, hand.effects
"""
HAND_FILL = """
INSERT INTO hand.queue (lane, body)
SELECT 'key-' || n, convert_to(repeat('x', 330), 'UTF8') FROM generate_series($1::int, $2::int) AS n
"""
# What stands in our queue already is the pattern for more of it, at the speed of the server.
MORE = """
INSERT INTO work.tenfold_queue (waits, run_at, priority, lane, handler, generation, tenant,
    message_id, body)
SELECT 1, clock_timestamp(), 0, 'rest:1:main:' || $2 || '-' || n, 'rest', 1, 'main',
    gen_random_uuid()::text, $3
FROM generate_series(1, $1::int) AS n
"""


class Bench:
    """A database of its own on the server, and a key space of its own."""

    def __init__(self, url: str, valkey: str, admin: Any) -> None:
        self.url = url
        self.valkey = valkey
        self.admin = admin

    async def fill_ours(self, kind: str, jobs: int, keys: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            host = make_host(self.url, Path(folder))
            await host.start(Role.LOOK)
            await self.admin.execute("TRUNCATE work.effects, work.tenfold_inbox")
            work = host.proxy(Work)
            for first in range(0, jobs, 250):
                await work.fill(kind, first, min(250, jobs - first), keys)
            await host.stop()
        await self.settle()

    async def fill_hand(self, jobs: int) -> None:
        await self.admin.execute(HAND_TABLES)
        for first in range(1, jobs, 500):
            await self.admin.execute(HAND_FILL, first, min(first + 499, jobs))
        await self.settle()

    async def fill_taskiq(self, jobs: int) -> None:
        broker, task = queue_peers.taskiq_broker(self.valkey)
        await broker.startup()
        for first in range(0, jobs, 500):
            numbers = range(first, min(first + 500, jobs))
            await asyncio.gather(*(task.kiq(number, f"key-{number}") for number in numbers))
        await broker.shutdown()

    async def fill_procrastinate(self, jobs: int) -> None:
        app, task = queue_peers.procrastinate_app(self.url)
        async with app.open_async():
            if not await app.check_connection_async():
                await app.schema_manager.apply_schema_async()
            for first in range(0, jobs, 500):
                numbers = range(first, min(first + 500, jobs))
                await task.batch_defer_async(*({"number": number} for number in numbers))

    async def settle(self) -> None:
        """Begin every side with a server that has nothing left to do."""
        await self.admin.execute("CHECKPOINT")

    async def work(self, side: str, jobs: int) -> dict[str, float]:
        """One worker process, from its first job to its last."""
        url = self.valkey if side == "taskiq" else self.url
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.servers.queue_workers", side, url, str(jobs)),
            cwd=ROOT,
            env=environ,
            stdout=subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"the worker of {side} failed")
        found: dict[str, float] = json.loads(printed.splitlines()[-1])
        return found


async def measure(bench: Bench, rounds: int, jobs: int, noise: Noise) -> list[Figure]:
    """Every side once in each round, the first of them in turn."""

    async def ours(kind: str, count: int, keys: int) -> dict[str, float]:
        await bench.fill_ours(kind, count, keys)
        return await bench.work("tenfold", count)

    async def hand(side: str, count: int) -> dict[str, float]:
        await bench.fill_hand(count)
        return await bench.work(side, count)

    async def taskiq(count: int) -> dict[str, float]:
        await bench.fill_taskiq(count)
        return await bench.work("taskiq", count)

    async def procrastinate(count: int) -> dict[str, float]:
        await bench.fill_procrastinate(count)
        return await bench.work("procrastinate", count)

    fewer = jobs // 5
    sides: dict[str, Callable[[], Awaitable[dict[str, float]]]] = {
        "ours": lambda: ours("rest", jobs, 0),
        "keys": lambda: ours("rest", jobs, 1000),
        "hand": lambda: hand("hand", jobs),
        "taskiq": lambda: taskiq(fewer),
        "procrastinate": lambda: procrastinate(jobs // 50),
        "effect": lambda: ours("effect", fewer, 0),
        "hand effect": lambda: hand("hand-effect", fewer),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(rounds):
        noise.probe()
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            found[name].append(await sides[name]())

    return _figures(found)


def _figures(found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    """What the rounds showed, each side beside what it is compared with."""

    def values(side: str, key: str = "per_s") -> list[float]:
        return [each[key] for each in found[side]]

    def both(side: str) -> list[float]:
        return [each["client_us"] + each["server_us"] for each in found[side]]

    def ratio(side: str, other: str) -> list[float]:
        return [a / b for a, b in zip(values(side), values(other), strict=True)]

    return [
        Figure("no-op jobs, one worker process, a key each", "jobs/s", values("ours"), "40,000"),
        Figure("  the worker's processor time", "us/job", values("ours", "client_us")),
        Figure("  the server's, for its connections", "us/job", values("ours", "server_us")),
        Figure("no-op jobs, one worker process, 1,000 keys", "jobs/s", values("keys")),
        Figure("no-op jobs, hand-written SQL", "jobs/s", values("hand")),
        Figure("  processor time, worker and server", "us/job", both("hand")),
        Figure("  ours against hand-written SQL", "x", ratio("ours", "hand"), "0.5"),
        Figure("no-op jobs, Taskiq on Redis streams", "jobs/s", values("taskiq")),
        Figure("  ours against Taskiq", "x", ratio("ours", "taskiq"), "10"),
        Figure("no-op jobs, Procrastinate", "jobs/s", values("procrastinate")),
        Figure("  ours against Procrastinate", "x", ratio("ours", "procrastinate"), "60"),
        Figure("jobs with one effect each", "jobs/s", values("effect"), "8,000"),
        Figure("  the worker's processor time", "us/job", values("effect", "client_us")),
        Figure("  the server's, for its connections", "us/job", values("effect", "server_us")),
        Figure("jobs with one effect each, hand-written SQL", "jobs/s", values("hand effect")),
        Figure("  processor time, worker and server", "us/job", both("hand effect")),
        Figure("  ours against hand-written SQL", "x", ratio("effect", "hand effect"), "0.5"),
    ]


async def measure_held(bench: Bench, jobs: int) -> list[Figure]:
    """A steady flow of jobs, with and without a transaction that somebody forgot."""
    free = await _steady(bench, jobs)
    forgotten = await asyncpg.connect(bench.url)
    async with forgotten.transaction(isolation="repeatable_read"):
        await forgotten.execute("SELECT pg_current_xact_id()")
        held = await _steady(bench, jobs)
        last = await _steady(bench, jobs // 6)
    await forgotten.close()
    loss = (1 - min(held["per_s"], last["per_s"]) / free["per_s"]) * 100
    name = f"{jobs:,} jobs at {STEADY_PER_S:,}/s"
    return [
        Figure(f"{name}, finished", "jobs/s", [free["per_s"]]),
        Figure("  the same, a transaction left open", "jobs/s", [held["per_s"]]),
        Figure(f"  the next {jobs // 6:,} behind it", "jobs/s", [last["per_s"]]),
        Figure("  lost", "%", [loss], "below 10"),
        Figure("  the server's processor time, without", "us/job", [free["server_us"]]),
        Figure("  with", "us/job", [held["server_us"]]),
        Figure("  behind it", "us/job", [last["server_us"]]),
    ]


async def _steady(bench: Bench, jobs: int) -> dict[str, float]:
    """What one worker process finishes of a flow that does not wait for it."""
    await bench.fill_ours("rest", 1, 0)
    body = await bench.admin.fetchval("DELETE FROM work.tenfold_queue RETURNING body")
    pool = Pool(PoolSettings(url=bench.url, size=2))
    wakeups = Wakeups(pool)
    working = asyncio.create_task(bench.work("tenfold", jobs))
    await asyncio.sleep(2)
    began = time.perf_counter()
    sent, each, run = 0, STEADY_PER_S // 20, secrets.token_hex(4)
    while sent < jobs:
        count = min(each, jobs - sent)
        await bench.admin.execute(MORE, count, f"{run}-{sent}", body)
        sent += count
        wakeups.tell("work")
        await asyncio.sleep(max(began + sent / STEADY_PER_S - time.perf_counter(), 0))
    found = await working
    await pool.close()
    return found


async def run(
    servers: tuple[str, str], rounds: int, jobs: int, held: int, noise: Noise
) -> list[Figure]:
    """All figures, over a database of their own."""
    url, valkey = servers
    name = f"tenfold_bench_{secrets.token_hex(4)}"
    server = await asyncpg.connect(url)
    await server.execute(f"CREATE DATABASE {name}")
    own = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    admin = await asyncpg.connect(own)
    try:
        bench = Bench(own, valkey, admin)
        figures = await measure(bench, rounds, jobs, noise) if rounds else []
        return [*figures, *(await measure_held(bench, held) if held else [])]
    finally:
        await admin.close()
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await server.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="0: only what --held asks for")
    parser.add_argument("--jobs", type=int, default=60_000, help="no-op jobs in each round")
    parser.add_argument("--held", type=int, default=HELD, help="jobs behind an open transaction")
    given = parser.parse_args()
    noise = Noise()
    with queue_servers() as servers:
        for figure in uvloop.run(run(servers, given.rounds, given.jobs, given.held, noise)):
            print(figure.line())
    print(noise.line())


if __name__ == "__main__":
    main()
