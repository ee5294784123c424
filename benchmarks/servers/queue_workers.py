"""One worker process of each kind: works what is in its queue, and prints how fast.

python -m benchmarks.servers.queue_workers SIDE URL JOBS
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from benchmarks.measure import process_cpu_s

__all__ = ["main"]

BATCH = 500
AT_ONCE = 16
HAND = f"""
DELETE FROM hand.queue WHERE id IN (
    SELECT id FROM hand.queue ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED
) RETURNING id, lane, body
"""
HAND_EFFECT = """
WITH job AS (
    DELETE FROM hand.queue WHERE id = (
        SELECT id FROM hand.queue ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    ) RETURNING id
)
INSERT INTO hand.effects SELECT id FROM job RETURNING number
"""


class Watch:
    """Time and processor time from the first job to the last."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.count = 0
        self.done = asyncio.Event()
        self._began_s = self._cpu_s = 0.0

    def note(self) -> None:
        if not self.count:
            self._began_s, self._cpu_s = time.perf_counter(), time.process_time()
        self.count += 1
        if self.count == self.jobs:
            self.done.set()

    def result(self) -> dict[str, float]:
        took_s = time.perf_counter() - self._began_s
        cpu_s = time.process_time() - self._cpu_s
        return {"per_s": self.count / took_s, "client_us": cpu_s / self.count * 1e6}


async def tenfold(url: str, jobs: int) -> dict[str, float]:
    from benchmarks.servers.queue_product import WORKED, make_host
    from tenfold.runtimes.roles import Role

    watch = WORKED.watch = Watch(jobs)
    others = await _connections(url)
    with tempfile.TemporaryDirectory() as folder:
        host = make_host(url, Path(folder))
        await host.start(Role.WORKER)
        worker = host.worker("work")
        await watch.done.wait()
        while worker.counts.done < jobs:
            await worker.moved.wait(0.1)
        found = await _with_server(watch, url, others)
        await host.stop()
    return found


async def _with_server(watch: Watch, url: str, others: set[int]) -> dict[str, float]:
    """What was measured, with the processor time of the connections that were made for it."""
    found = watch.result()
    found["server_us"] = _cpu_s(await _connections(url) - others) / watch.count * 1e6
    return found


async def _connections(url: str) -> set[int]:
    """The server's processes for this database."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    )
    await connection.close()
    return {row[0] for row in rows}


def _cpu_s(pids: set[int]) -> float:
    """Their processor time, where they are processes of this machine."""
    try:
        return sum(process_cpu_s(pid) for pid in pids)
    except OSError:
        return 0.0


async def hand(url: str, jobs: int) -> dict[str, float]:
    watch = Watch(jobs)
    others = await _connections(url)
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})

    async def work(body: bytes) -> None:
        watch.note()

    while not watch.done.is_set():
        async with connection.transaction():
            for _, _, body in await connection.fetch(HAND):
                await work(body)
    return await _with_server(watch, url, others)


async def hand_effect(url: str, jobs: int) -> dict[str, float]:
    watch = Watch(jobs)
    others = await _connections(url)

    connections = [
        await asyncpg.connect(url, server_settings={"jit": "off"}) for _ in range(AT_ONCE)
    ]

    async def work(connection: Any) -> None:
        while await connection.fetchval(HAND_EFFECT) is not None:
            watch.note()

    await asyncio.gather(*(work(connection) for connection in connections))
    return await _with_server(watch, url, others)


async def taskiq(url: str, jobs: int) -> dict[str, float]:
    from taskiq.receiver import Receiver

    from benchmarks.servers import queue_peers

    broker, task = queue_peers.taskiq_broker(url)
    watch = queue_peers.WATCH.watch = Watch(jobs)
    broker.is_worker_process = True
    await broker.startup()
    receiver = Receiver(broker, max_async_tasks=100, run_startup=False)
    finish = asyncio.Event()
    listening = asyncio.create_task(receiver.listen(finish))
    await watch.done.wait()
    found = watch.result()
    finish.set()
    await listening
    await broker.shutdown()
    assert task is not None
    return found


async def procrastinate(url: str, jobs: int) -> dict[str, float]:
    from benchmarks.servers import queue_peers

    watch = queue_peers.WATCH.watch = Watch(jobs)
    app, _ = queue_peers.procrastinate_app(url)
    async with app.open_async():
        await app.run_worker_async(
            wait=False, concurrency=AT_ONCE, install_signal_handlers=False, listen_notify=False
        )
    return watch.result()


SIDES: dict[str, Callable[[str, int], Awaitable[dict[str, float]]]] = {
    "tenfold": tenfold,
    "hand": hand,
    "hand-effect": hand_effect,
    "taskiq": taskiq,
    "procrastinate": procrastinate,
}


def main() -> None:
    """Work, and print what was measured as JSON."""
    side, url, jobs = sys.argv[1], sys.argv[2], int(sys.argv[3])

    async def run() -> dict[str, Any]:
        return await SIDES[side](url, jobs)

    print(json.dumps(uvloop.run(run())))


if __name__ == "__main__":
    main()
