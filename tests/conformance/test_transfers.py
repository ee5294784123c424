"""Both ways from outbox to queue pass one suite: through this process, and in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tenfold.adapters.postgres.queue import PostgresQueue
from tenfold.adapters.postgres.transfer import PostgresTransfer
from tenfold.path.carrying import CarryThrough
from tenfold.ports.records import Delivery, EventRecord, SubscriptionKey
from tenfold.ports.transfer import Follower, Transfer
from tenfold.testing import transfer_suite
from tenfold.testing.transfer_suite import VIEW, WORK, Queued, published
from tests.conformance.postgres_log import Connection, LogBench, OwnSession
from tests.conformance.sqlite_bench import SqliteBench

T = TypeVar("T")
FOLLOW = "INSERT INTO {s}.tenfold_positions (handler, generation, source, seq) VALUES ($1,$2,$3,$4)"
POSITIONS = "SELECT handler, generation, seq FROM {s}.tenfold_positions WHERE source = 'orders'"
ASSIGNED = "SELECT pg_current_xact_id_if_assigned()::text::bigint"
QUEUED = """
SELECT message_id, handler, generation, lane, priority FROM {s}.tenfold_queue
WHERE waits = 1 AND source = 'orders' AND body = message_id::bytea ORDER BY id
"""


class Watched(OwnSession):
    """Notes whether a piece of work was given a transaction's number."""

    def __init__(self, url: str, schema: str) -> None:
        super().__init__(url, schema)
        self.numbers: list[int | None] = []

    async def write(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def watched(connection: Connection) -> T:
            result = await work(connection)
            self.numbers.append(await connection.fetchval(ASSIGNED))
            return result

        return await super().write(watched)


class SqliteWay:
    """Two files, and a way through this process."""

    def __init__(self, folder: Path) -> None:
        self.source = SqliteBench(folder / "orders.db")
        self.target = SqliteBench(folder / "shop.db")
        self.clock = self.target.clock = self.source.clock
        self.transfer = self.another_transfer()

    def another_transfer(self) -> CarryThrough:
        queue = self.target.another()
        return CarryThrough("orders", self.source.another_outbox(), queue, self.clock)

    async def publish(self, events: Sequence[EventRecord]) -> int:
        await self.source.publish(events)
        return await self.source.outbox.head()

    async def follow(self, follower: Follower, position: int) -> None:
        key = SubscriptionKey(
            handler=follower.handler, generation=follower.generation, source="orders"
        )
        await self.target.queue.deliver(Delivery(entries=[], positions={key: position}))

    async def positions(self) -> dict[tuple[str, int], int]:
        found = await self.target.queue.positions()
        return {(key.handler, key.generation): seq for key, seq in found.items()}

    async def queued(self) -> list[Queued]:
        found = await self.target.queue.entries(state=None, handler=None, after=0, limit=500)
        found += await self.target.queue.entries(
            state=None, handler=None, after=found[-1].id if found else 0, limit=500
        )
        return [(e.message_id, e.handler, e.generation, e.lane, e.priority) for e in found]

    def close(self) -> None:
        self.source.close()
        self.target.close()


class PostgresWay:
    """Two schemas of one database, and a way inside it."""

    def __init__(self, url: str) -> None:
        self.source = LogBench(url, schema="orders")
        self.clock = self.source.clock
        self.target = LogBench(url, self.clock, schema="shop")
        self.transfer = self.another_transfer()

    async def open(self) -> None:
        await self.source.open()
        await self.target.open()

    def another_transfer(self) -> Transfer:
        return PostgresTransfer(
            self.target.session, self.source.session.schema, "orders", self.clock
        )

    async def publish(self, events: Sequence[EventRecord]) -> int:
        await self.source.publish(events)
        return await self.source.outbox.head()

    async def follow(self, follower: Follower, position: int) -> None:
        text = FOLLOW.format(s=self.target.session.schema)
        values = (follower.handler, follower.generation, "orders", position)
        await self.target.session.write(lambda c: c.execute(text, *values))

    async def positions(self) -> dict[tuple[str, int], int]:
        text = POSITIONS.format(s=self.target.session.schema)
        found = await self.target.session.read(lambda c: c.fetch(text))
        return {(row[0], row[1]): row[2] for row in found}

    async def queued(self) -> list[Queued]:
        text = QUEUED.format(s=self.target.session.schema)
        return [tuple(row) for row in await self.target.session.read(lambda c: c.fetch(text))]

    async def close(self) -> None:
        await self.source.close()
        await self.target.close()


class TestThroughThisProcess(transfer_suite.TransferCases):
    @pytest.fixture
    def transfers(self, tmp_path: Path) -> Iterator[SqliteWay]:
        made = SqliteWay(tmp_path)
        yield made
        made.close()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresWay]:
    made = PostgresWay(postgres_url)
    await made.open()
    yield made
    await made.close()


class TestInsidePostgres(transfer_suite.TransferCases):
    @pytest.fixture
    def transfers(self, postgres: PostgresWay) -> PostgresWay:
        return postgres


class ThroughWay(PostgresWay):
    """Two schemas, which might as well be two servers, and a way through this process."""

    def another_transfer(self) -> Transfer:
        queue = PostgresQueue(self.target.session, self.clock)
        return CarryThrough("orders", self.source.outbox, queue, self.clock)


class TestThroughThisProcessOnPostgres(transfer_suite.TransferCases):
    @pytest.fixture
    async def transfers(self, postgres_url: str) -> AsyncIterator[ThroughWay]:
        made = ThroughWay(postgres_url)
        await made.open()
        yield made
        await made.close()


@pytest.mark.anyio
async def test_what_is_above_the_horizon_is_carried_when_the_slow_one_has_ended(
    postgres: PostgresWay,
) -> None:
    await postgres.follow(WORK, 0)
    first = await postgres.publish([published("first", postgres)])
    slow = await postgres.source.session.connect()
    async with slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        await postgres.source.commit([published("fast", postgres)])
        carried = await postgres.transfer.carry([WORK], 0, 100)
        assert (carried.added, carried.position, carried.held) == (1, first, True)
        again = await postgres.transfer.carry([WORK], first, 100)
        assert (again.read, again.position, again.held) == (0, first, True)
    await postgres.source.settled()
    last = await postgres.transfer.carry([WORK], first, 100)
    assert (last.added, last.held) == (1, False)
    assert [entry[0] for entry in await postgres.queued()] == ["first", "fast"]


@pytest.mark.anyio
async def test_a_look_that_finds_nothing_writes_nothing(postgres: PostgresWay) -> None:
    await postgres.follow(WORK, 0)
    head = await postgres.publish([published("a", postgres, name="Lost")])
    session = Watched(postgres.target.session.url, "shop")
    transfer = PostgresTransfer(session, postgres.source.session.schema, "orders", postgres.clock)
    assert (await transfer.carry([WORK], 0, 100)).position == head
    assert session.numbers == [None]
    await session.close()


@pytest.mark.anyio
async def test_a_follower_without_a_place_gets_nothing_and_is_named(postgres: PostgresWay) -> None:
    await postgres.follow(WORK, 0)
    await postgres.publish([published("a", postgres)])
    carried = await postgres.transfer.carry([WORK, VIEW], 0, 100)
    assert carried.missing == (("view.see", 3),)
    assert [entry[1] for entry in await postgres.queued()] == ["work"]
    assert await postgres.positions() == {("work", 1): carried.position}


@pytest.mark.anyio
async def test_a_second_relay_that_waited_for_the_first_sees_its_place(
    postgres: PostgresWay,
) -> None:
    """The second one's page is older than the place that it finds after the wait."""
    await postgres.follow(WORK, 0)
    await postgres.publish([published("a", postgres), published("b", postgres)])
    first = await postgres.source.session.connect()
    schema = postgres.target.session.schema
    async with first.transaction():
        await first.execute(
            f"UPDATE {schema}.tenfold_positions SET seq = $1",
            (await postgres.source.outbox.read(0, ["Placed"], 1)).position,
        )
        second = asyncio.create_task(postgres.transfer.carry([WORK], 0, 100))
        await _blocked_by(first, postgres.source, second)
    carried = await second
    assert carried.added == 1
    assert [entry[0] for entry in await postgres.queued()] == ["b"]


async def _blocked_by(holder: Connection, bench: LogBench, task: asyncio.Task[object]) -> None:
    pid = holder.get_server_pid()
    waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid)))"
    while not await bench.session.read(lambda c: c.fetchval(waits, pid)):
        assert not task.done()
        await asyncio.sleep(0.005)
