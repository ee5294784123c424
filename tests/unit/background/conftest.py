"""A module's file and a worker over it, driven by signals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.path.declare import Background
from tenfold.path.queue import Worker, WorkerLimits, WorkerParts
from tenfold.path.stops import Stop
from tenfold.ports.clock import RandomIds
from tenfold.ports.records import Claimed
from tests.conformance.sqlite_bench import SqliteBench
from tests.unit.background.broker_line import Line

Handle = Callable[[Claimed, int], Awaitable[None]]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[SqliteBench]:
    made = SqliteBench(tmp_path / "module.db")
    yield made
    made.close()


class Crew:
    """Makes workers over a bench, and stops those that a test leaves running."""

    def __init__(self, bench: SqliteBench) -> None:
        self.bench = bench
        self.handled: list[str] = []
        self.workers: list[Worker] = []

    async def note(self, entry: Claimed, fence: int) -> None:
        self.handled.append(entry.message_id)

    def worker(self, handle: Handle | None = None, **fields: Any) -> Worker:
        limits = fields.pop("limits", WorkerLimits(poll_s=60.0))
        parts = {
            "module": "shop",
            "queue": self.bench.queue,
            "handle": handle or self.note,
            "backgrounds": {
                "work": Background(attempts=3),
                "view.follow": Background(attempts=2, backoff_s=0),
            },
            "clock": self.bench.clock,
            "ids": RandomIds(7),
            "stop": Stop("queue"),
            **fields,
        }
        made = Worker(WorkerParts(limits=limits, **parts))
        self.bench.clock.on_jump.append(made.wake)
        self.workers.append(made)
        return made


@pytest.fixture
async def crew(bench: SqliteBench) -> AsyncIterator[Crew]:
    made = Crew(bench)
    yield made
    async with asyncio.timeout(10):
        for worker in made.workers:
            await worker.drain(0.01)


@pytest.fixture
async def line(tmp_path: Path, crew: Crew) -> AsyncIterator[Line]:
    source = SqliteBench(tmp_path / "orders.db")
    source.clock = crew.bench.clock
    made = Line(source, crew)
    yield made
    for log in made.logs:
        await log.rest()
    await made.broker.close()
    source.close()
