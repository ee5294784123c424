"""Processes tell one another of commits, seldom, and never inside a unit of work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenfold.adapters import postgres
from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.wakeups import WakeupLimits, Wakeups

pytestmark = pytest.mark.anyio


class Process:
    """One that tells and listens."""

    def __init__(self, url: str, **limits: Any) -> None:
        self.pool = Pool(PoolSettings(url=url, size=2))
        self.wakeups = Wakeups(self.pool, WakeupLimits(**limits))
        self.heard: asyncio.Queue[str] = asyncio.Queue()

    async def listen(self) -> None:
        await self.wakeups.listen(self.heard.put_nowait)

    async def close(self) -> None:
        await self.wakeups.close()
        await self.pool.close()


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[tuple[Process, Process]]:
    made = (Process(postgres_url, gap_s=0.2), Process(postgres_url))
    for process in made:
        await process.listen()
    yield made
    for process in made:
        await process.close()


async def test_what_one_tells_the_others_hear(pair: tuple[Process, Process]) -> None:
    one, other = pair
    one.wakeups.tell("orders")
    async with asyncio.timeout(5):
        assert await other.heard.get() == "orders"
    other.wakeups.tell("stock")
    async with asyncio.timeout(5):
        assert await one.heard.get() == "stock"  # and not what it told itself
    assert one.heard.empty()


async def test_the_first_is_told_at_once_and_the_others_together_after_the_gap(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        one.wakeups.tell("orders")
        assert await other.heard.get() == "orders"
        first = loop.time()
        for _ in range(1000):
            one.wakeups.tell("stock")
            one.wakeups.tell("mails")
        assert [await other.heard.get(), await other.heard.get()] == ["stock", "mails"]
        assert loop.time() - first > 0.1
        while one.wakeups.statistics().sent < 2:  # the other may hear before the sender is told
            await asyncio.sleep(0)
    assert one.wakeups.statistics().sent == 2
    assert other.wakeups.statistics().heard == 2


async def test_many_modules_are_told_whatever_a_notice_takes(
    pair: tuple[Process, Process],
) -> None:
    one, other = pair
    names = {f"module_{i:04}_" + "x" * 40 for i in range(400)}
    for name in names:
        one.wakeups.tell(name)
    async with asyncio.timeout(10):
        assert {await other.heard.get() for _ in names} == names


async def test_a_listener_that_lost_its_connection_hears_again_of_all_it_knows(
    pair: tuple[Process, Process], postgres_url: str
) -> None:
    one, other = pair
    one.wakeups.tell("orders")
    third = await asyncpg.connect(postgres_url)
    async with asyncio.timeout(10):
        assert await other.heard.get() == "orders"
        await third.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'tenfold listener' AND datname = current_database()"
        )
        assert await other.heard.get() == "orders"  # it may have missed something
        one.wakeups.tell("orders")
        assert await other.heard.get() == "orders"
    await third.close()


async def test_without_a_server_nothing_is_lost_but_the_notice() -> None:
    process = Process("postgresql://nobody@127.0.0.1:1/none", send_s=0.05)
    process.wakeups.tell("orders")
    async with asyncio.timeout(5):
        while process.wakeups.statistics().failed == 0:
            await asyncio.sleep(0.01)
    await process.close()
    process.wakeups.tell("orders")


def test_no_unit_of_work_notifies() -> None:
    """The server lets one transaction commit at a time that does."""
    folder = Path(postgres.__path__[0])
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert path.name == "wakeups.py" or ("NOTIFY " not in text and "pg_notify" not in text)
