"""The writing thread: what a lost group does to its members, and how it ends."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, final

import pytest
from sqlalchemy import Column, Integer, Table, Text, bindparam, select

from tenfold import Contract, Database, Event, command, publish, query
from tenfold.adapters.sqlite.store import SqliteStore
from tenfold.contracts.errors import Outcome, StoreUnavailableError
from tenfold.path.handle import RERUNS
from tenfold.ports.clock import RandomIds
from tenfold.ports.unit import UnitLostError
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant

pytestmark = pytest.mark.anyio

TABLES = metadata()
ROWS = Table(
    "rows",
    TABLES,
    tenant(),
    Column("number", Integer, primary_key=True),
    Column("text", Text, nullable=False),
)
ADD = ROWS.insert().values(number=bindparam("number"), text=bindparam("text"))
NUMBERS = select(ROWS.c.number).order_by(ROWS.c.number)
# What a statement does that fills the disk, done at will: SQLite drops the whole transaction.
LOSE = """
CREATE TRIGGER lose BEFORE INSERT ON rows WHEN new.text = 'lose'
BEGIN SELECT RAISE(ROLLBACK, 'lost'); END
"""


class Added(Event):
    number: int


class Book(Contract, Protocol):
    """A book of rows."""

    @command(who="anyone")
    async def add(self, number: int, text: str = "") -> int:
        """Add a row; returns how many times the handler began."""
        ...

    @command(who="anyone")
    async def add_or_lose(self, number: int, catch: bool, write_after: bool = True) -> int:
        """Add a row, then a statement at which SQLite rolls the whole transaction back."""
        ...

    @query(who="anyone")
    async def numbers(self) -> list[int]:
        """All rows."""
        ...


@final
class BookModule(Book):
    metadata = TABLES
    db: Database
    begun: dict[int, int] = {}  # noqa: RUF012

    async def add(self, number: int, text: str = "") -> int:
        self.begun[number] = self.begun.get(number, 0) + 1
        await self.db.execute(ADD, number=number, text=text)
        publish(Added(number=number))
        return self.begun[number]

    async def add_or_lose(self, number: int, catch: bool, write_after: bool = True) -> int:
        await self.db.execute(ADD, number=number + 1000, text="before")
        try:
            await self.db.execute(ADD, number=number, text="lose")
        except Exception:
            if not catch:
                raise
        if write_after:
            await self.db.execute(ADD, number=number + 2000, text="after")
        publish(Added(number=number))
        return 1

    async def numbers(self) -> list[int]:
        return [row.number for row in await self.db.all(NUMBERS)]


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(
        Product(
            name="library",
            root=tmp_path,
            modules={"book": BookModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        ),
        data_dir=tmp_path,
        ids=RandomIds(7),
        create_tables=True,
    )
    BookModule.begun.clear()
    await made.start()
    await store_of(made).write(lambda connection: connection.execute(LOSE) and None)
    yield made
    await made.stop()


def store_of(host: Host) -> SqliteStore:
    units = host.modules["book"].resources.units
    assert isinstance(units, SqliteStore)
    return units


@asynccontextmanager
async def held(host: Host) -> AsyncIterator[None]:
    """The writer's thread stands still, so that what comes meanwhile makes one group."""
    entered, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stand(_: sqlite3.Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        go_on.wait(5)

    standing = asyncio.create_task(store_of(host).write(stand))
    await entered.wait()
    try:
        yield
    finally:
        go_on.set()
        await standing


async def in_one_group(host: Host, *calls: Any) -> list[Any]:
    async with held(host):
        tasks = [asyncio.ensure_future(call) for call in calls]
        for _ in range(20):
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def events(host: Host) -> int:
    return await host.modules["book"].outbox.head()


# --- Groups that are lost ------------------------------------------------------------------------


async def test_members_of_a_lost_group_begin_again_and_commit_once(host: Host) -> None:
    book = host.proxy(Book)
    await book.add(0)
    answers = await in_one_group(
        host, book.add(1), book.add(2), book.add_or_lose(0, catch=False), book.add(3)
    )
    assert isinstance(answers[2], StoreUnavailableError)
    assert answers[2].outcome is Outcome.NOT_DONE
    # Those before it had run and began again; the one behind it had not.
    assert [answers[0], answers[1], answers[3]] == [2, 2, 1]
    assert await book.numbers() == [0, 1, 2, 3]
    assert await events(host) == 4


@pytest.mark.parametrize("write_after", [True, False])
async def test_a_handler_that_goes_on_after_a_lost_group_still_leaves_nothing(
    host: Host, write_after: bool
) -> None:
    book = host.proxy(Book)
    await book.add(0)
    answers = await in_one_group(
        host, book.add(1), book.add_or_lose(0, catch=True, write_after=write_after), book.add(2)
    )
    assert isinstance(answers[1], StoreUnavailableError)
    assert await book.numbers() == [0, 1, 2]
    assert await events(host) == 3


async def test_a_full_disk_fails_the_one_that_filled_it(host: Host) -> None:
    book = host.proxy(Book)
    await book.add(0)

    def bound(connection: sqlite3.Connection) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")

    def unbound(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count=1073741823")

    await store_of(host).write(bound)
    answers = await in_one_group(host, book.add(1), book.add(2, "x" * 100_000), book.add(3))
    assert isinstance(answers[1], StoreUnavailableError)
    assert "SQLITE_FULL" in str(answers[1])
    assert "make room, then try again" in str(answers[1])
    assert not any(isinstance(answer, BaseException) for answer in (answers[0], answers[2]))
    assert await book.numbers() == [0, 1, 3]
    await store_of(host).write(unbound)
    assert await book.add(2, "x" * 100_000) == 2
    assert await book.numbers() == [0, 1, 2, 3]
    assert await events(host) == 4
    assert host.healthy


async def test_a_handler_that_is_lost_each_time_gives_up(host: Host) -> None:
    store = store_of(host)
    lost = 0

    class _Losing:
        async def run(self, unit: Any, handler: Any, context: Any, value: Any) -> Any:
            nonlocal lost
            lost += 1
            if handler is not None:
                handler.close()
            raise UnitLostError("lost")

    host.modules["book"].resources.units = _Losing()
    with pytest.raises(StoreUnavailableError, match=f"was begun {RERUNS} times") as caught:
        await host.proxy(Book).add(1)
    assert (lost, caught.value.outcome) == (RERUNS, Outcome.NOT_DONE)
    host.modules["book"].resources.units = store
    assert await host.proxy(Book).numbers() == []


async def test_the_platforms_own_work_is_run_again_with_a_lost_group(host: Host) -> None:
    runs = 0

    def work(connection: sqlite3.Connection) -> int:
        nonlocal runs
        runs += 1
        connection.execute("INSERT INTO rows VALUES ('main', 7, 'own')")
        return runs

    book = host.proxy(Book)
    await book.add(0)
    answers = await in_one_group(host, store_of(host).write(work), book.add_or_lose(0, False))
    assert answers[0] == 2
    assert isinstance(answers[1], StoreUnavailableError)
    assert await book.numbers() == [0, 7]


@pytest.mark.parametrize("error", [ValueError, sqlite3.IntegrityError, KeyboardInterrupt])
async def test_work_that_fails_leaves_nothing_and_hands_its_error_on(
    host: Host, error: type[BaseException]
) -> None:
    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO rows VALUES ('main', 7, 'own')")
        raise error("mine")

    book = host.proxy(Book)
    answers = await in_one_group(host, book.add(1), _caught(store_of(host).write(work)))
    assert answers[0] == 1
    assert type(answers[1]) is error
    assert await book.numbers() == [1]


async def _caught(call: Any) -> BaseException:
    try:
        await call
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


async def test_a_call_that_is_cancelled_while_it_waits_does_not_begin(host: Host) -> None:
    book = host.proxy(Book)
    async with held(host):
        task = asyncio.ensure_future(book.add(1))
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert await book.add(2) == 1
    assert await book.numbers() == [2]


async def test_what_was_handed_in_is_committed_before_it_closes(tmp_path: Path, host: Host) -> None:
    store = store_of(host)
    done: list[int] = []

    def work(number: int) -> Callable[[sqlite3.Connection], None]:
        def add(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO rows VALUES ('main', ?, '')", (number,))
            done.append(number)

        return add

    tasks = [asyncio.ensure_future(store.write(work(n))) for n in range(200)]
    await asyncio.sleep(0)
    store.close()
    assert done == list(range(200))
    assert "tenfold-writer-book" not in {thread.name for thread in threading.enumerate()}
    await asyncio.gather(*tasks)
    connection = sqlite3.connect(tmp_path / "book.db")
    assert connection.execute("SELECT count(*) FROM rows").fetchone() == (200,)
    connection.close()
    store.start()
