"""The relay, from a source's outbox into a target's queue, over two SQLite files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tenfold.path.carrying import decide_entries
from tenfold.path.publishing import publisher_feed
from tenfold.path.relay import Feed, Relay, RelayLimits, RelayParts
from tenfold.path.retention import Retained, Retention, RetentionParts, decide_trim
from tenfold.path.stops import Stop
from tenfold.ports.outbox import Outbox
from tenfold.ports.records import (
    Claimed,
    Delivery,
    InboxKey,
    OutboxPage,
    OutboxRow,
    SubscriptionKey,
)
from tenfold.ports.transfer import Carried, Follower
from tenfold.testing.outbox_suite import event
from tests.conformance.sqlite_bench import SqliteBench
from tests.unit.background.conftest import Crew

pytestmark = pytest.mark.anyio
WORK = Feed(handler="work", source="orders", events=("Placed",))


@pytest.fixture
def source(tmp_path: Path, bench: SqliteBench) -> Iterator[SqliteBench]:
    made = SqliteBench(tmp_path / "orders.db")
    made.clock = bench.clock
    yield made
    made.close()


def relay_of(crew: Crew, source: SqliteBench, *feeds: Feed, **limits: Any) -> Relay:
    worker = crew.workers[0] if crew.workers else crew.worker()
    parts = RelayParts(
        module="shop",
        queue=crew.bench.queue,
        sources={"orders": source.outbox},
        worker=worker,
        clock=crew.bench.clock,
        stop=Stop("relay"),
        limits=RelayLimits(poll_s=60, **limits),
    )
    return Relay(parts, feeds)


async def queued(bench: SqliteBench) -> list[tuple[str, str, str | None]]:
    found = await bench.queue.entries(state=None, handler=None, after=0, limit=500)
    return [(e.message_id, e.handler, e.lane) for e in found]


def test_each_feed_gets_its_events_in_lanes_of_its_own(bench: SqliteBench) -> None:
    at = bench.clock.now()
    rows = [
        OutboxRow(seq=i, message_id=f"m{i}", name=name, tenant="t", order_key=key, at=at, body=b"b")
        for i, (name, key) in enumerate([("Placed", "k"), ("Paid", "k"), ("Placed", None)], 1)
    ]
    both = Feed(handler="view.follow", source="orders", events=("Placed", "Paid"), generation=3)
    made = decide_entries("orders", [WORK.follower, both.follower], rows)
    assert [(e.message_id, e.handler, e.lane, e.source_seq) for e in made] == [
        ("m1", "work", "work:1:t:k", 1),
        ("m1", "view.follow", "view:3:t:k", 1),
        ("m2", "view.follow", "view:3:t:k", 2),
        ("m3", "work", None, 3),
        ("m3", "view.follow", None, 3),
    ]


async def test_events_come_into_the_queue_and_to_the_worker(
    crew: Crew, source: SqliteBench
) -> None:
    relay = relay_of(crew, source, WORK)
    await source.publish([event("before", source)])
    crew.workers[0].start()
    relay.start()
    async with asyncio.timeout(10):
        await relay.wait_resting()
        await source.publish([event("after", source), event("other", source, name="Paid")])
        relay.wake()
        await relay.wait_resting()
        await crew.workers[0].wait_resting()
    await relay.stop()
    assert crew.handled == ["before", "after"]
    assert relay.position(WORK.key) == 3


async def test_what_is_carried_is_counted_by_event_and_subscribing_module(
    crew: Crew, source: SqliteBench
) -> None:
    relay = relay_of(crew, source, WORK)
    await source.publish([event(str(i), source) for i in range(3)])
    await relay.step()
    counted = [(c.label, c.outcome, c.count) for c in relay._parts.stop.snapshot()]
    assert counted == [("Placed -> shop", "ok", 3)]


async def test_a_long_log_is_carried_in_batches(crew: Crew, source: SqliteBench) -> None:
    await source.publish([event(str(i), source) for i in range(25)])
    relay = relay_of(crew, source, WORK, batch=10)
    assert [await relay.step() for _ in range(3)] == [True, True, False]
    assert [m for m, *_ in await queued(crew.bench)] == [str(i) for i in range(25)]


async def test_a_second_relay_delivers_nothing_twice(crew: Crew, source: SqliteBench) -> None:
    await source.publish([event(str(i), source) for i in range(5)])
    first, second = relay_of(crew, source, WORK, batch=3), relay_of(crew, source, WORK, batch=2)
    for relay in (first, second, first, second, second):
        await relay.step()
    assert [m for m, *_ in await queued(crew.bench)] == ["0", "1", "2", "3", "4"]


async def test_a_relay_goes_on_where_the_one_before_it_was(crew: Crew, source: SqliteBench) -> None:
    await source.publish([event("a", source)])
    await relay_of(crew, source, WORK).step()
    await source.publish([event("b", source)])
    again = relay_of(crew, source, WORK)
    await again.step()
    assert again.delivered == 1
    assert [m for m, *_ in await queued(crew.bench)] == ["a", "b"]


async def test_a_subscription_from_now_on_misses_what_was_and_nothing_after(
    crew: Crew, source: SqliteBench
) -> None:
    now = Feed(handler="work", source="orders", events=("Placed",), start="now")
    await source.publish([event("old", source)])
    await relay_of(crew, source, now).step()
    await source.publish([event("while it was down", source)])
    await relay_of(crew, source, now).step()
    assert [m for m, *_ in await queued(crew.bench)] == ["while it was down"]


async def test_a_new_feed_catches_up_beside_one_that_is_ahead(
    crew: Crew, source: SqliteBench
) -> None:
    await source.publish([event("a", source)])
    relay = relay_of(crew, source, WORK)
    await relay.step()
    shadow = Feed(handler="view.follow", source="orders", events=("Placed",), generation=2)
    relay.follow([shadow])
    await relay.step()
    await source.publish([event("b", source)])
    await relay.step()
    assert [(m, h) for m, h, _ in await queued(crew.bench)] == [
        ("a", "work"),
        ("a", "view.follow"),
        ("b", "work"),
        ("b", "view.follow"),
    ]


async def test_a_paced_feed_never_fills_the_queue_beyond_its_window(
    crew: Crew, source: SqliteBench
) -> None:
    paced = Feed(handler="work", source="orders", events=("Placed",), paced=True)
    await source.publish([event(str(i), source) for i in range(50)])
    relay = relay_of(crew, source, paced, batch=5, window=10)
    for _ in range(10):
        await relay.step()
    assert len(await queued(crew.bench)) == 15
    worker = crew.workers[0]
    worker.start()
    async with asyncio.timeout(10):
        while len(crew.handled) < 50:
            await relay.step()
            await worker.wait_resting()
    assert crew.handled == [str(i) for i in range(50)]


async def test_the_outbox_is_kept_for_its_slowest_subscriber(
    crew: Crew, source: SqliteBench
) -> None:
    await source.publish([event("a", source), event("b", source)])
    relay = relay_of(crew, source, WORK)
    silent = Relay(relay._parts, [])
    retention = Retention(
        RetentionParts(
            modules={
                "orders": Retained(
                    outbox=source.outbox, queue=source.queue, relay=silent, retain_days=1
                ),
                "shop": Retained(outbox=crew.bench.outbox, queue=crew.bench.queue, relay=relay),
            },
            clock=crew.bench.clock,
        )
    )
    key = InboxKey(message_id="old", handler="work", generation=1)
    await crew.bench.remember(key)
    crew.bench.clock.jump(timedelta(days=8).total_seconds())
    assert await retention.trim() == {"orders": 0, "shop": 1}  # the shop has read nothing yet
    assert await crew.bench.forgotten(key)
    await relay.step()
    assert await retention.trim() == {"orders": 2, "shop": 0}
    assert await source.outbox.head() == 2


async def test_the_outbox_is_kept_for_the_subscribers_of_other_services(
    crew: Crew, source: SqliteBench
) -> None:
    await source.publish([event("a", source), event("b", source)])
    relay = relay_of(crew, source, WORK)
    other = Retained(
        outbox=crew.bench.outbox, queue=crew.bench.queue, relay=None, own=False, feeds=(WORK,)
    )
    own = Retained(outbox=source.outbox, queue=source.queue, relay=None, retain_days=1)
    parts = RetentionParts(modules={"orders": own, "shop": other}, clock=crew.bench.clock)
    crew.bench.clock.jump(timedelta(days=8).total_seconds())
    assert await Retention(parts).trim() == {"orders": 0}  # the shop has read nothing yet
    await relay.step()
    await relay.store_positions()
    assert await Retention(parts).trim() == {"orders": 2}


async def test_the_place_of_a_publisher_holds_the_outbox_while_there_is_a_broker(
    crew: Crew, source: SqliteBench
) -> None:
    await source.publish([event("a", source), event("b", source)])
    place = {publisher_feed("orders").key: 1}
    await source.queue.deliver(Delivery(entries=[], positions=place))
    own = Retained(outbox=source.outbox, queue=source.queue, relay=None, retain_days=1)
    parts = RetentionParts(modules={"orders": own}, clock=crew.bench.clock)
    crew.bench.clock.jump(timedelta(days=8).total_seconds())
    assert await Retention(parts).trim() == {"orders": 1}
    without = msgspec.structs.replace(parts, published=False)
    assert await Retention(without).trim() == {"orders": 1}


async def test_a_publisher_that_begins_with_what_is_kept_misses_nothing(
    crew: Crew, source: SqliteBench, caplog: pytest.LogCaptureFixture
) -> None:
    await source.publish([event("a", source), event("b", source)])
    crew.bench.clock.jump(timedelta(days=8).total_seconds())
    await source.outbox.trim(crew.bench.clock.now(), 1)
    await relay_of(crew, source, publisher_feed("orders")).step()
    assert caplog.text == ""
    await relay_of(crew, source, WORK).step()
    assert "was trimmed up to event 1" in caplog.text


def test_what_may_be_forgotten_ends_at_the_slowest_subscriber() -> None:
    def key(handler: str) -> SubscriptionKey:
        return SubscriptionKey(handler=handler, generation=1, source="orders")

    followers = {("shop", key("a")), ("mail", key("a"))}
    assert decide_trim("orders", followers, {("shop", key("a")): 9}) == 0
    stored = {("shop", key("a")): 9, ("mail", key("a")): 5}
    assert decide_trim("orders", followers, stored) == 5
    assert decide_trim("orders", followers, {**stored, ("old", key("gone")): 2}) == 2
    assert decide_trim("other", followers, stored) is None


async def test_it_is_not_at_rest_while_it_looks_by_itself(crew: Crew, source: SqliteBench) -> None:
    class Watched:
        def __init__(self) -> None:
            self.resting: list[bool] = []

        def __getattr__(self, name: str) -> object:
            return getattr(source.outbox, name)

        async def read(self, after: int, names: Sequence[str], limit: int) -> OutboxPage:
            self.resting.append(relay.resting)
            return await source.outbox.read(after, names, limit)

    watched = Watched()
    relay = Relay(
        RelayParts(
            module="shop",
            queue=crew.bench.queue,
            sources={"orders": cast("Outbox", watched)},
            worker=crew.worker(),
            clock=crew.bench.clock,
            stop=Stop("relay"),
            limits=RelayLimits(poll_s=0.001),
        ),
        [WORK],
    )
    relay.start()
    async with asyncio.timeout(10):
        while len(watched.resting) < 5:
            await asyncio.sleep(0)
        await relay.wait_resting()
    assert not any(watched.resting)
    await relay.stop()


async def test_a_feed_that_is_held_back_is_not_at_rest_while_the_worker_is_busy(
    crew: Crew, source: SqliteBench
) -> None:
    go = asyncio.Event()

    async def handle(entry: Claimed, fence: int) -> None:
        await go.wait()

    worker = crew.worker(handle)
    paced = Feed(handler="work", source="orders", events=("Placed",), paced=True)
    relay = relay_of(crew, source, paced, batch=2, window=2)
    await source.publish([event(str(i), source) for i in range(9)])
    worker.start()
    relay.start()
    async with asyncio.timeout(10):
        while not worker.counts.claimed:
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        assert not relay.resting
        go.set()
        while relay.delivered < 9:
            relay.wake()
            await asyncio.sleep(0)
        await relay.wait_resting()
    await relay.stop()


class HeldTransfer:
    """A way on which an event is committed, and may be read only at the third look."""

    def __init__(self) -> None:
        self.looks = 0

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        self.looks += 1
        if self.looks < 3:
            return Carried(read=0, added=0, position=after, lags_s={}, held=True)
        if self.looks == 3:
            return Carried(read=1, added=1, position=9, lags_s={"Placed": [0.2]})
        return Carried(read=0, added=0, position=9, lags_s={})


async def test_what_an_older_transaction_keeps_back_is_looked_for_without_a_signal(
    crew: Crew, source: SqliteBench
) -> None:
    told, way = asyncio.Event(), HeldTransfer()
    crew.worker()
    relay = Relay(
        RelayParts(
            module="shop",
            queue=crew.bench.queue,
            sources={"orders": source.outbox},
            worker=crew.workers[0],
            clock=crew.bench.clock,
            stop=Stop("relay"),
            limits=RelayLimits(poll_s=60),
            transfers={"orders": way},
            on_added=told.set,
        ),
        [WORK],
    )
    relay.start()
    async with asyncio.timeout(10):
        await relay.wait_resting()
    assert (way.looks, relay.position(WORK.key), relay.delivered) == (3, 9, 1)
    assert told.is_set()
    await relay.stop()
