"""Rebuilding a projection while it serves, over SQLite."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tenfold.adapters.sqlite.generations import SqliteGenerations
from tenfold.adapters.sqlite.records import insert_events
from tenfold.path.declare import Background
from tenfold.path.projection import (
    LogTrimmedError,
    ProjectionParts,
    Projections,
    RebuildFailedError,
    RebuildProgress,
    UnknownProjectionError,
)
from tenfold.path.queue import Worker
from tenfold.path.relay import Feed, Relay, RelayLimits, RelayParts
from tenfold.path.stops import Stop
from tenfold.ports.records import Claimed
from tenfold.testing.outbox_suite import event
from tests.conformance.sqlite_bench import SqliteBench
from tests.unit.background.conftest import Crew

pytestmark = pytest.mark.anyio
SEEN = sa.Table(
    "seen",
    sa.MetaData(),
    sa.Column("tenant", sa.Text, primary_key=True),
    sa.Column("message_id", sa.Text, primary_key=True),
)
FOLLOW = Feed(handler="view.follow", source="orders", events=("Placed",))


class Shop:
    """One module with the projection `view`, which notes the events it has seen."""

    def __init__(self, crew: Crew, source: SqliteBench) -> None:
        self.crew, self.source, self.bench = crew, source, crew.bench
        self.refuse: str | None = None
        self.generations = SqliteGenerations(self.bench.session, {"view": [SEEN]})
        self.generations.ensure(self.bench.session.connection)
        self.start_again()

    def start_again(self) -> None:
        self.worker: Worker = self.crew.worker(
            self.handle,
            backgrounds={"view.follow": Background(attempts=1)},
            obsolete=lambda entry: self.projections.obsolete(entry),  # noqa: PLW0108  made below
        )
        self.relay = Relay(
            RelayParts(
                module="shop",
                queue=self.bench.queue,
                sources={"orders": self.source.outbox},
                worker=self.worker,
                clock=self.bench.clock,
                stop=Stop("relay"),
                limits=RelayLimits(batch=7, poll_s=60, window=14),
            ),
            [],
        )
        self.projections: Projections = Projections(
            ProjectionParts(
                module="shop",
                generations=self.generations,
                queue=self.bench.queue,
                desk=self.bench.queue,
                relay=self.relay,
                sources={"orders": self.source.outbox},
                feeds={"view": [FOLLOW]},
                moved=self.worker.moved,
            )
        )

    async def start(self) -> list[str]:
        unfinished = await self.projections.load()
        self.relay.follow(self.projections.active_feeds())
        self.worker.start()
        self.relay.start()
        return unfinished

    async def stop(self) -> None:
        await self.relay.stop()
        await self.worker.drain(1)

    async def handle(self, entry: Claimed, fence: int) -> None:
        if entry.message_id == self.refuse:
            raise ValueError("cannot be taken")
        await self.bench.session.write(
            lambda c: c.execute(
                f"INSERT INTO seen__{entry.generation} VALUES ('main', ?)", (entry.message_id,)
            )
        )

    async def settle(self) -> None:
        async with asyncio.timeout(10):
            self.relay.wake()
            await self.relay.wait_resting()
        await self.settle_worker()

    async def settle_worker(self) -> None:
        async with asyncio.timeout(10):
            await self.worker.wait_resting()

    async def seen(self) -> list[str]:
        active = (await self.generations.state())["view"].active
        rows = self.bench.session.connection.execute(
            f"SELECT message_id FROM seen__{active} ORDER BY message_id"
        )
        return [row[0] for row in rows]

    def spoil(self) -> None:
        self.bench.session.connection.execute("DELETE FROM seen__1")


@pytest.fixture
def source(tmp_path: Path, bench: SqliteBench) -> Iterator[SqliteBench]:
    made = SqliteBench(tmp_path / "orders.db")
    made.clock = bench.clock
    yield made
    made.close()


@pytest.fixture
async def shop(crew: Crew, source: SqliteBench) -> Shop:
    made = Shop(crew, source)
    await source.publish([event(f"{i:02}", source, order_key="k") for i in range(40)])
    assert await made.start() == []
    await made.settle()
    return made


ALL = [f"{i:02}" for i in range(40)]


async def test_a_rebuild_reads_the_whole_log_and_takes_over(shop: Shop) -> None:
    assert await shop.seen() == ALL
    shop.spoil()
    told: list[RebuildProgress] = []
    async with asyncio.timeout(20):
        assert await shop.projections.rebuild("view", told.append) == 2
    assert await shop.seen() == ALL
    assert (told[-1].read, told[-1].of) == (40, 40)
    # Nothing delivers to the dropped generation any more, or it would come back.
    assert {(feed.generation, feed.paced) for feed in shop.relay.feeds} == {(2, False)}
    await shop.source.publish([event("zz", shop.source)])
    await shop.settle()
    assert {key.generation for key in await shop.bench.queue.positions()} == {2}
    await shop.stop()


async def test_what_comes_during_and_after_a_rebuild_is_seen_once(shop: Shop) -> None:
    shop.spoil()
    more = iter(range(40, 60))

    def tell(progress: RebuildProgress) -> None:
        for i in [i for _, i in zip(range(5), more, strict=False)]:
            new = event(f"{i:02}", shop.source, order_key="k")
            insert_events(shop.source.session.connection, [new])
            shop.relay.wake()

    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", tell)
    for i in more:
        await shop.source.publish([event(f"{i:02}", shop.source, order_key="k")])
    await shop.settle()
    head = await shop.source.outbox.head()
    assert await shop.projections.reached("view", "orders", head)
    assert await shop.seen() == [f"{i:02}" for i in range(60)]
    await shop.stop()


async def test_the_old_generation_serves_until_the_swap(shop: Shop) -> None:
    served: list[int] = []

    def tell(progress: RebuildProgress) -> None:
        row = shop.bench.session.connection.execute("SELECT count(*) FROM seen__1").fetchone()
        served.append(row[0])

    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", tell)
    assert set(served) == {40}
    with pytest.raises(Exception, match="no such table"):
        shop.bench.session.connection.execute("SELECT count(*) FROM seen__1")
    await shop.stop()


async def test_a_rebuild_that_was_killed_goes_on_after_the_start(shop: Shop) -> None:
    shop.spoil()
    rebuild = asyncio.create_task(shop.projections.rebuild("view", lambda progress: None))
    async with asyncio.timeout(10):
        while not await shop.bench.queue.positions() or len(await shop.bench.queue.positions()) < 2:
            await asyncio.sleep(0)
    rebuild.cancel()
    await asyncio.wait([rebuild])
    await shop.stop()
    await shop.bench.queue.release_claims()
    shop.start_again()
    assert await shop.start() == ["view"]
    async with asyncio.timeout(20):
        assert await shop.projections.rebuild("view", lambda progress: None) == 2
    assert await shop.seen() == ALL
    await shop.stop()


async def test_a_rebuild_begun_anew_leaves_nothing_of_the_one_before(shop: Shop) -> None:
    rebuild = asyncio.create_task(shop.projections.rebuild("view", lambda progress: None))
    await asyncio.sleep(0)
    rebuild.cancel()
    await asyncio.wait([rebuild])
    async with asyncio.timeout(20):
        generation = await shop.projections.rebuild("view", lambda p: None, resume=False)
    assert await shop.seen() == ALL
    await shop.settle()
    assert {key.generation for key in await shop.bench.queue.positions()} == {generation}
    assert await shop.bench.queue.counts() == {}
    await shop.stop()


async def test_an_event_that_cannot_be_taken_stops_the_rebuild_and_not_the_service(
    shop: Shop,
) -> None:
    shop.refuse = "05"
    async with asyncio.timeout(20):
        with pytest.raises(RebuildFailedError, match="cannot be taken"):
            await shop.projections.rebuild("view", lambda progress: None)
    assert await shop.seen() == ALL
    shop.refuse = None
    dead = await shop.bench.queue.entries(state="dead", handler=None, after=0, limit=9)
    await shop.bench.queue.retry([letter.id for letter in dead])
    shop.worker.wake()
    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", lambda progress: None)
    assert await shop.seen() == ALL
    await shop.stop()


async def test_a_trimmed_log_is_not_taken_for_the_whole(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    head = await shop.source.outbox.head()
    await shop.source.outbox.trim(shop.bench.clock.jump(60), head - 3)
    with pytest.raises(LogTrimmedError, match=r"rebuild shop\.view --partial"):
        await shop.projections.rebuild("view", lambda progress: None)
    assert await shop.seen() == ALL
    assert (await shop.generations.state())["view"].building is None
    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", lambda progress: None, partial=True)
    assert await shop.seen() == ALL[-3:]
    assert "trimmed up to event" in caplog.text
    await shop.stop()


async def test_a_rebuild_that_had_begun_goes_on_though_the_log_was_trimmed_since(
    shop: Shop,
) -> None:
    shop.refuse = "39"
    async with asyncio.timeout(20):
        with pytest.raises(RebuildFailedError):
            await shop.projections.rebuild("view", lambda progress: None)
    await shop.source.outbox.trim(shop.bench.clock.jump(60), await shop.source.outbox.head())
    shop.refuse = None
    dead = await shop.bench.queue.entries(state="dead", handler=None, after=0, limit=9)
    await shop.bench.queue.retry([letter.id for letter in dead])
    shop.worker.wake()
    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", lambda progress: None)
    assert await shop.seen() == ALL
    await shop.stop()


async def test_reading_ones_own_writes_waits_for_delivery_and_effect(
    shop: Shop,
) -> None:
    head = await shop.source.outbox.head()
    assert await shop.projections.reached("view", "orders", head)
    await shop.source.publish([event("new", shop.source)])
    assert not await shop.projections.reached("view", "orders", head + 1)
    assert await shop.projections.reached("view", "another", 99)
    await shop.settle()
    assert await shop.projections.reached("view", "orders", head + 1)
    await shop.stop()


async def test_an_unknown_projection_is_named_with_those_there_are(shop: Shop) -> None:
    with pytest.raises(UnknownProjectionError, match="view"):
        await shop.projections.rebuild("veiw", lambda progress: None)
    await shop.stop()
