"""Projections where several processes share the database: one builds, all answer alike."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tenfold.path.projection import (
    ProjectionParts,
    Projections,
    RebuildFailedError,
    UnknownProjectionError,
)
from tenfold.path.relay import Feed, Relay, RelayParts
from tenfold.path.stops import Stop
from tenfold.ports.projections import GenerationState
from tenfold.ports.records import Delivery
from tenfold.testing.outbox_suite import event
from tests.unit.background.test_projection import ALL, FOLLOW, Shop, shop, source

__all__ = ["shop", "source"]
pytestmark = pytest.mark.anyio


class Process:
    """Another process over the database of a shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.told = 0
        self.answers: dict[str, int] = {}
        self.relay = Relay(
            RelayParts(
                module="shop",
                queue=shop.bench.queue,
                sources={"orders": shop.source.outbox},
                worker=shop.worker,
                clock=shop.bench.clock,
                stop=Stop("relay"),
            ),
            [],
        )
        self.projections = Projections(
            ProjectionParts(
                module="shop",
                generations=shop.generations,
                queue=shop.bench.queue,
                desk=shop.bench.queue,
                relay=self.relay,
                sources={"orders": shop.source.outbox},
                feeds={"view": [FOLLOW]},
                moved=shop.worker.moved,
                on_swap=self.answers.__setitem__,
                shared=True,
                on_change=self.tell,
            )
        )

    def tell(self) -> None:
        self.told += 1

    async def load(self) -> list[str]:
        unfinished = await self.projections.load()
        self.relay.follow(self.projections.active_feeds())
        return unfinished


async def reached(process: Process, position: int) -> bool:
    return await process.projections.reached("view", "orders", position)


async def test_a_process_that_does_not_relay_knows_what_was_worked_from_the_database(
    shop: Shop,
) -> None:
    other = Process(shop)
    await other.load()
    head = await shop.source.outbox.head()
    assert await reached(other, head)
    assert await other.projections.reached("view", "elsewhere", 99)
    # The relay has not stored that it looked past what nobody follows.
    await shop.source.publish([event("other", shop.source, name="Lost")])
    assert await reached(other, await shop.source.outbox.head())
    await shop.relay.stop()
    await shop.source.publish([event("zz", shop.source)])
    assert not await reached(other, await shop.source.outbox.head())
    await shop.relay.step()
    await shop.settle_worker()
    assert await reached(other, await shop.source.outbox.head())
    await shop.stop()


async def test_what_is_queued_and_not_worked_is_not_reached(shop: Shop) -> None:
    other = Process(shop)
    await other.load()
    await shop.worker.drain(1)
    await shop.source.publish([event("zz", shop.source)])
    async with asyncio.timeout(10):
        shop.relay.wake()
        await shop.relay.wait_resting()
    assert not await reached(other, await shop.source.outbox.head())
    assert await reached(other, await shop.source.outbox.head() - 1)
    await shop.relay.stop()


async def test_another_process_answers_from_the_swapped_generation_once_it_has_looked(
    shop: Shop,
) -> None:
    other = Process(shop)
    await other.load()
    async with asyncio.timeout(20):
        await shop.projections.rebuild("view", lambda _: None)
    assert other.projections.active("view") == 1
    assert not await reached(other, await shop.source.outbox.head())
    assert await other.projections.refresh() == []
    assert (other.projections.active("view"), other.answers) == (2, {"view": 2})
    assert {(feed.generation, feed.paced) for feed in other.relay.feeds} == {(2, False)}
    assert await reached(other, await shop.source.outbox.head())
    assert await other.projections.refresh() == []
    await shop.stop()


async def test_any_process_may_ask_for_a_rebuild_and_the_leading_one_builds(shop: Shop) -> None:
    other = Process(shop)
    await other.load()
    shop.spoil()
    assert await other.projections.ask("view") == 2
    assert other.told == 1
    assert await other.projections.ask("view") == 2  # it goes on
    assert await shop.projections.refresh() == ["view"]
    async with asyncio.timeout(20):
        assert await shop.projections.rebuild("view", lambda _: None) == 2
    assert await shop.seen() == ALL
    with pytest.raises(UnknownProjectionError):
        await other.projections.ask("none")
    await shop.stop()


async def test_a_rebuild_that_another_process_began_anew_is_given_up(shop: Shop) -> None:
    other = Process(shop)
    await other.load()
    begun = asyncio.Event()
    await shop.worker.drain(1)  # so that the first one does not end
    first = asyncio.create_task(shop.projections.rebuild("view", lambda _: begun.set()))
    async with asyncio.timeout(20):
        await begun.wait()
        assert await other.projections.ask("view", anew=True) == 3
        with pytest.raises(RebuildFailedError, match="given up"):
            await first
    assert await shop.generations.state() == {"view": GenerationState(active=1, building=3)}
    await shop.relay.stop()


async def test_a_generation_that_another_process_gave_up_is_followed_no_more(shop: Shop) -> None:
    other = Process(shop)
    building = await shop.generations.begin("view")
    assert await other.load() == ["view"]
    await shop.generations.drop("view", building)
    assert await other.projections.refresh() == []
    assert [feed.generation for feed in other.relay.feeds] == [1]
    await shop.stop()


async def test_the_old_generation_is_kept_for_those_who_have_not_looked_yet(shop: Shop) -> None:
    swapped, waiting = asyncio.Event(), asyncio.Event()
    process = Process(shop)
    parts = process.projections._parts
    building = Projections(
        ProjectionParts(
            module=parts.module,
            generations=parts.generations,
            queue=parts.queue,
            desk=parts.desk,
            relay=shop.relay,
            sources=parts.sources,
            feeds=parts.feeds,
            moved=parts.moved,
            on_change=swapped.set,
            grace_s=3600,
        )
    )
    await building.load()
    task = asyncio.create_task(building.rebuild("view", lambda _: waiting.set()))
    async with asyncio.timeout(20):
        while building.active("view") == 1:
            await asyncio.sleep(0.01)
    assert swapped.is_set()
    assert shop.bench.session.connection.execute("SELECT count(*) FROM seen__1").fetchone()[0] == 40
    task.cancel()
    await asyncio.wait([task])
    await shop.stop()


async def test_a_relay_that_begins_again_reads_from_where_another_has_come(shop: Shop) -> None:
    await shop.relay.stop()
    await shop.source.publish([event("zz", shop.source)])
    successor = Process(shop)
    await successor.load()
    await successor.relay.step()
    shop.relay.start()
    async with asyncio.timeout(10):
        await shop.relay.wait_resting()
    assert shop.relay.position(FOLLOW.key) == await shop.source.outbox.head()
    assert shop.relay.delivered == 40  # and not once more
    await shop.settle()
    await shop.stop()


async def test_a_feed_whose_place_is_gone_is_given_up(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    """As a transfer tells it, which finds no place to lock."""
    from tenfold.ports.transfer import Carried

    class Gone:
        async def carry(self, followers: object, after: int, limit: int) -> Carried:
            missing = (("view.follow", 1),)
            return Carried(read=1, added=0, position=after + 1, lags_s={}, missing=missing)

    relay = Relay(
        RelayParts(
            module="shop",
            queue=shop.bench.queue,
            sources={"orders": shop.source.outbox},
            worker=shop.worker,
            clock=shop.bench.clock,
            stop=Stop("relay"),
            transfers={"orders": Gone()},
        ),
        [Feed(handler="view.follow", source="orders", events=("Placed",))],
    )
    with caplog.at_level(logging.WARNING, "tenfold.relay"):
        await relay.step()
    assert relay.feeds == []
    assert "has no place in the log of orders any more" in caplog.text
    await shop.bench.queue.deliver(Delivery(entries=[], positions={}))
    await shop.stop()
