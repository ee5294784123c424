"""One of many processes leads, and another takes over when it is gone, however it went."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.leader import LeaderLimits, Leadership
from tenfold.adapters.postgres.schema import lock_key

pytestmark = pytest.mark.anyio

HOLDER = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND ((classid::bigint << 32) | objid::bigint) = $1
"""
PROCESS = """
import asyncio, sys
from tenfold.adapters.postgres.leader import Leadership
async def main():
    async def gained(): print("gained", flush=True)
    async def lost(): print("lost", flush=True)
    await Leadership(sys.argv[1], gained=gained, lost=lost).start()
    await asyncio.sleep(600)
asyncio.run(main())
"""


class Candidate:
    """A process that would lead."""

    def __init__(self, url: str, pooled: bool = False, **limits: Any) -> None:
        self.gained, self.lost = asyncio.Event(), asyncio.Event()
        self.heard: list[str] = []
        self.leadership = Leadership(
            url,
            gained=self._gain,
            lost=self._lose,
            pooled=pooled,
            limits=LeaderLimits(**limits),
        )

    async def _gain(self) -> None:
        self.heard.append("gained")
        self.gained.set()

    async def _lose(self) -> None:
        self.heard.append("lost")
        self.lost.set()


Make = Callable[..., Candidate]


@pytest.fixture
async def candidate(postgres_url: str) -> AsyncIterator[Make]:
    made: list[Candidate] = []

    def make(**fields: Any) -> Candidate:
        made.append(Candidate(postgres_url, **fields))
        return made[-1]

    yield make
    for each in made:
        await each.leadership.stop()


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def holder(other: asyncpg.Connection[Any]) -> int:
    pid = await other.fetchval(HOLDER, lock_key("leader", "product"))
    assert isinstance(pid, int)
    return pid


@pytest.mark.parametrize("pooled", [False, True])
async def test_one_leads_and_the_next_takes_over_when_it_stops(
    candidate: Make, pooled: bool
) -> None:
    first, second = candidate(pooled=pooled), candidate(pooled=pooled)
    await first.leadership.start()
    await second.leadership.start()
    async with asyncio.timeout(5):
        await first.gained.wait()
    assert (first.leadership.leading, second.leadership.leading) == (True, False)
    await first.leadership.stop()
    async with asyncio.timeout(5):
        await second.gained.wait()
    assert first.heard == ["gained"]
    assert not first.leadership.leading


async def test_whatever_fails_on_the_way_nobody_stops_trying_to_lead(
    candidate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    only = candidate(longest_wait_s=0.1)
    lose, hold = only._lose, only.leadership._hold
    fail = ["in the connection", "at the end"]

    async def failing_hold(*args: Any) -> str:
        if len(fail) == 2:
            raise asyncpg.InternalClientError(f"cannot switch to state: {fail.pop(0)}")
        return await hold(*args)

    async def failing_lose() -> None:
        if fail:
            raise RuntimeError(fail.pop())
        await lose()

    monkeypatch.setattr(only.leadership, "_hold", failing_hold)
    monkeypatch.setattr(only.leadership, "_lost", failing_lose)
    await only.leadership.start()
    async with asyncio.timeout(10):
        while only.heard[-1:] != ["gained"] or "lost" not in only.heard:
            await asyncio.sleep(0.01)
    assert not fail


@pytest.mark.parametrize("pooled", [False, True])
async def test_a_leader_whose_connection_is_ended_knows_it_and_another_leads_within_a_second(
    candidate: Make, other: asyncpg.Connection[Any], pooled: bool
) -> None:
    first, second = candidate(pooled=pooled), candidate(pooled=pooled)
    await first.leadership.start()
    await second.leadership.start()
    async with asyncio.timeout(5):
        await first.gained.wait()
    began = time.monotonic()
    await other.execute("SELECT pg_terminate_backend($1)", await holder(other))
    async with asyncio.timeout(5):
        await first.lost.wait()
        # Either may be the quicker one.
        while not first.leadership.leading and not second.leadership.leading:
            await asyncio.sleep(0.01)
    assert time.monotonic() - began < 1.0
    assert first.heard[:2] == ["gained", "lost"]


async def test_a_process_that_is_killed_is_followed_within_a_second(
    postgres_url: str, candidate: Make
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, postgres_url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "gained\n"
        second = candidate()
        await second.leadership.start()
        assert not second.gained.is_set()
        began = time.monotonic()
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(5):
            await second.gained.wait()
        assert time.monotonic() - began < 1.0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_a_process_that_stands_still_is_followed_and_knows_it_when_it_wakes(
    postgres_url: str, candidate: Make
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, postgres_url], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert await asyncio.to_thread(process.stdout.readline) == "gained\n"
        second = candidate()
        await second.leadership.start()
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(10):
            await second.gained.wait()
            process.send_signal(signal.SIGCONT)
            assert await asyncio.to_thread(process.stdout.readline) == "lost\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_where_the_work_cannot_begin_the_lead_is_given_up_and_tried_for_again(
    postgres_url: str,
) -> None:
    tries = 0
    led, lost = asyncio.Event(), asyncio.Event()

    async def gain() -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("full")
        led.set()

    async def lose() -> None:
        lost.set()

    limits = LeaderLimits(look_s=0.01, longest_wait_s=0.05)
    leadership = Leadership(postgres_url, gained=gain, lost=lose, limits=limits)
    await leadership.start()
    async with asyncio.timeout(5):
        await lost.wait()
        await led.wait()
    await leadership.stop()


async def test_work_that_is_beginning_is_cut_short_when_the_lead_is_lost(
    postgres_url: str, other: asyncpg.Connection[Any]
) -> None:
    begun, cut, lost = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def gain() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    async def lose() -> None:
        assert cut.is_set()
        lost.set()

    leadership = Leadership(postgres_url, gained=gain, lost=lose)
    await leadership.start()
    async with asyncio.timeout(5):
        await begun.wait()
        await other.execute("SELECT pg_terminate_backend($1)", await holder(other))
        await lost.wait()
    await leadership.stop()


@pytest.mark.parametrize("pooled", [False, True])
async def test_neither_leading_nor_waiting_keeps_vacuum_from_its_work(
    candidate: Make, other: asyncpg.Connection[Any], pooled: bool
) -> None:
    for each in (candidate(pooled=pooled), candidate(pooled=pooled)):
        await each.leadership.start()
    # A look takes a moment now and then; what must not be is a hold that lasts.
    held: set[int] | None = None
    pids: set[int] = set()
    for _ in range(9):
        rows = await other.fetch(
            "SELECT pid, backend_xmin, backend_xid FROM pg_stat_activity"
            " WHERE application_name = 'tenfold leader' AND datname = current_database()"
        )
        pids |= {row[0] for row in rows}
        now = {row[0] for row in rows if (row[1], row[2]) != (None, None)}
        held = now if held is None else held & now
        await asyncio.sleep(0.05)
    assert len(pids) == 2
    assert held == set()


async def test_it_goes_on_whatever_the_driver_raises(
    candidate: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = candidate()
    execute, raised = asyncpg.Connection.execute, asyncio.Event()

    async def fail_once(self: Any, statement: str, *values: Any, **more: Any) -> Any:
        if statement == "SELECT 1" and not raised.is_set():
            raised.set()
            # What asyncpg says of a connection that the server has just ended.
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2)")
        return await execute(self, statement, *values, **more)

    monkeypatch.setattr(asyncpg.Connection, "execute", fail_once)
    await one.leadership.start()
    async with asyncio.timeout(10):
        await one.gained.wait()
        one.gained.clear()
        await raised.wait()
        await one.gained.wait()
    assert one.heard == ["gained", "lost", "gained"]
