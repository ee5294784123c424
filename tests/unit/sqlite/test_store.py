"""A module's store: what one unit of work does wrong does not reach the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from threading import Event
from typing import Protocol, final

import pytest
from sqlalchemy import Column, Table, Text, bindparam, func, literal, select

from tenfold import Contract, Database, command, keyed, query
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    Outcome,
    StoreUnavailableError,
)
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant

pytestmark = pytest.mark.anyio

TABLES = metadata()
THINGS = Table("things", TABLES, tenant(), Column("name", Text, primary_key=True))
PUT = THINGS.insert().values(name=bindparam("name"))
PARTS = Table(
    "parts", TABLES, tenant(), Column("name", Text, primary_key=True), Column("thing", Text)
)
PUT_PART = PARTS.insert().values(name=bindparam("name"), thing=bindparam("thing"))
DEFERRED = """
CREATE TABLE parts (tenant TEXT, name TEXT, thing TEXT, FOREIGN KEY (tenant, thing)
    REFERENCES things (tenant, name) DEFERRABLE INITIALLY DEFERRED)
"""
NAMES = select(THINGS.c.name).order_by(THINGS.c.name)
NUMBERS = select(literal(1).label("n")).cte("numbers", recursive=True)
NUMBERS = NUMBERS.union_all(select(NUMBERS.c.n + 1).where(NUMBERS.c.n < bindparam("most")))
COUNT = select(func.count()).select_from(NUMBERS)
LONG = 1_000_000_000
VAR: ContextVar[int] = ContextVar("var")


class Shed(Contract, Protocol):
    """Things in a shed."""

    @command(who="internal")
    async def put(self, name: str) -> str:
        """Put a thing."""
        ...

    @command(who="internal")
    async def put_with_context(self, name: str) -> str:
        """Put a thing, and take back a context variable that it has set."""
        ...

    @command(who="internal")
    async def put_slowly(self, name: str) -> str:
        """Put a thing, and keep the thread until the test lets it go."""
        ...

    @command(who="internal", timeout_s=0.2)
    async def count(self, most: int) -> int:
        """Put a thing, then count up to a number, in SQLite."""
        ...

    @command(who="internal")
    async def put_part(self, name: str, thing: str) -> str:
        """Put a part of a thing."""
        ...

    @query(who="internal")
    async def names(self) -> list[str]:
        """What is there."""
        ...


@final
class ShedModule(Shed):
    metadata = TABLES
    db: Database

    def __init__(self) -> None:
        self.entered, self.go = Event(), Event()

    async def put(self, name: str) -> str:
        await self.db.execute(PUT, name=name)
        return name

    async def put_with_context(self, name: str) -> str:
        token = VAR.set(1)
        try:
            await self.db.execute(PUT, name=name)
        finally:
            VAR.reset(token)
        return name

    async def put_slowly(self, name: str) -> str:
        await self.db.execute(PUT, name=name)
        self.entered.set()
        self.go.wait(20)
        return name

    async def count(self, most: int) -> int:
        await self.db.execute(PUT, name="counted")
        return int(await self.db.value(COUNT, most=most))

    async def put_part(self, name: str, thing: str) -> str:
        await self.db.execute(PUT_PART, name=name, thing=thing)
        return name

    async def names(self) -> list[str]:
        return [row.name for row in await self.db.all(NAMES)]


class Running:
    """The shed in a running product, with its module at hand."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.shed = host.proxy(Shed)
        self.module: ShedModule = host.modules["shed"].instance

    async def entered(self) -> None:
        """Until `put_slowly` holds the writer's thread."""
        await asyncio.to_thread(self.module.entered.wait, 10)


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    product = Product(
        name="garden",
        root=folder,
        modules={"shed": ShedModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )
    host = Host(product, data_dir=folder, create_tables=True)
    await host.start()
    made = Running(host)
    try:
        yield made
    finally:
        made.module.go.set()
        await host.stop(drain_s=2.0)


async def test_a_handler_that_is_given_up_cleans_up_in_its_own_context(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        slow = asyncio.create_task(made.shed.put_slowly("slow"))
        await made.entered()
        beside = [asyncio.create_task(made.shed.put(f"{n}")) for n in range(4)]
        given_up = asyncio.create_task(made.shed.put_with_context("given up"))
        await asyncio.sleep(0.05)  # nothing tells when they have reached the writer's queue
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        made.module.go.set()
        assert await asyncio.gather(slow, *beside) == ["slow", *"0123"]
        assert await made.shed.names() == [*"0123", "slow"]


async def test_a_replay_that_gives_its_handler_up_answers_as_before(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        shed = keyed(made.shed, "k")
        both = await asyncio.gather(shed.put_with_context("a"), shed.put_with_context("a"))
        assert both == ["a", "a"]


async def test_what_the_clean_up_of_a_given_up_handler_raises_is_told_and_reaches_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def put(self: ShedModule, name: str) -> str:
        try:
            await self.db.execute(PUT, name=name)
        except GeneratorExit:
            raise ZeroDivisionError("the clean-up failed") from None
        return name

    monkeypatch.setattr(ShedModule, "put", put)
    async with running(tmp_path) as made:
        shed = keyed(made.shed, "k")
        assert await asyncio.gather(shed.put("a"), shed.put("a")) == ["a", "a"]
        assert "the clean-up failed" in caplog.text


async def test_a_handler_that_keeps_the_thread_does_not_keep_the_product_from_stopping(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as made:
        slow = asyncio.create_task(made.shed.put_slowly("slow"))
        await made.entered()
        async with asyncio.timeout(8):
            await made.host.stop(drain_s=0.1)
        assert "The writer of module shed was not done" in caplog.text
        made.module.go.set()
        await asyncio.gather(slow, return_exceptions=True)


async def test_work_that_comes_after_the_stop_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as made:
        queue = made.host.modules["shed"].queue
        await made.host.stop()
        with pytest.raises(StoreUnavailableError, match="is closed") as caught:
            await queue.retry([1])
        assert caught.value.outcome is Outcome.NOT_DONE


async def test_a_long_read_in_a_unit_ends_at_its_deadline_and_spares_the_others(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as made:
        assert await made.shed.put("first") == "first"
        async with asyncio.timeout(5):
            long = asyncio.create_task(made.shed.count(LONG))
            ends = await asyncio.gather(
                long, *(made.shed.put(n) for n in "ab"), return_exceptions=True
            )
        assert isinstance(ends[0], DeadlineExceededError)
        assert ends[1:] == ["a", "b"]
        assert await made.shed.names() == ["a", "b", "first"]
        assert await made.shed.count(10) == 10


async def test_a_reference_that_fails_the_commit_fails_the_unit_that_did_it_alone(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as made:
        store = made.host._opened["shed"].store
        await store.write(lambda c: c.execute("DROP TABLE parts"))
        await store.write(lambda c: c.execute(DEFERRED))
        slow = asyncio.create_task(made.shed.put_slowly("slow"))
        await made.entered()
        calls = [made.shed.put(f"{n:02}") for n in range(20)]
        calls.insert(10, made.shed.put_part("p", "nowhere"))
        tasks = [asyncio.create_task(call) for call in calls]
        await asyncio.sleep(0.05)  # nothing tells when they have reached the writer's queue
        made.module.go.set()
        async with asyncio.timeout(10):
            ends = await asyncio.gather(slow, *tasks, return_exceptions=True)
        (bad,) = [end for end in ends if isinstance(end, BaseException)]
        assert isinstance(bad, HandlerFaultError)
        assert "FOREIGN KEY" in str(bad)
        assert bad.outcome is Outcome.NOT_DONE
        assert await made.shed.names() == [*(f"{n:02}" for n in range(20)), "slow"]
