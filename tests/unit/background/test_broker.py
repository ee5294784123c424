"""Outbox to broker to queue: a publisher, a broker in memory, and a relay that follows it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from tenfold.adapters.memory.broker import MemoryBroker
from tenfold.path.packs import Mark, mark_headers
from tenfold.path.publishing import publisher_feed
from tenfold.ports.broker import Broker, BrokerUnavailableError, TopicSettings
from tests.unit.background.broker_line import CODEC, TOPIC, TOPICS, Line

pytestmark = pytest.mark.anyio


async def test_events_come_by_the_broker_each_once_and_in_the_logs_order(line: Line) -> None:
    await line.publish(40)
    publisher, relay = line.publisher(), line.relay()
    await publisher.step()
    await line.reach(relay, 40)
    await line.publish(30)
    await publisher.step()
    await line.reach(relay, 70)
    assert await line.queued() == line.all
    bounds = await line.broker.bounds(TOPIC)
    assert [each.after - each.first for each in bounds] == [2, 2, 2]  # packed, not one by one


async def test_both_ends_work_by_themselves_when_they_are_told(line: Line) -> None:
    publisher = line.publisher()
    log = line.log()
    relay = line.relay(log)
    log._parts = msgspec.structs.replace(log._parts, on_news=relay.wake)
    publisher.start()
    relay.start()
    line.crew.workers[0].start()
    try:
        async with asyncio.timeout(20):
            for _ in range(3):
                await line.publish(5)
                publisher.wake()
                while len(line.crew.handled) < line.told:
                    await asyncio.sleep(0.001)
    finally:
        await publisher.stop()
        await relay.stop()
    assert sorted(line.crew.handled) == sorted(line.all)


async def test_events_of_no_interest_move_the_position_and_are_not_carried(line: Line) -> None:
    await line.publish(3)
    await line.publish(4, name="Paid")
    relay = line.relay()
    await line.publisher().step()
    await line.reach(relay, 7)
    assert await line.queued() == ["m0", "m1", "m2"]


async def test_what_was_published_but_not_noted_is_published_again_and_carried_once(
    line: Line,
) -> None:
    await line.publish(10)

    class Forgetful(type(line.source.queue)):  # type: ignore[misc]
        async def deliver(self, delivery: Any) -> int:
            if any(delivery.positions.values()):
                raise OSError("killed between the broker and its own note")
            return await super().deliver(delivery)

    killed = line.publisher(queue=Forgetful(line.source.session, line.source.clock))
    with pytest.raises(OSError, match="killed"):
        await killed.step()
    assert (await line.source.queue.positions())[publisher_feed("orders").key] == 0
    relay = line.relay()
    await line.reach(relay, 10)
    await line.publish(5)
    await line.publisher().step()
    await line.reach(relay, 15)
    assert await line.queued() == line.all


async def test_a_publisher_that_was_paused_and_wakes_late_does_no_harm(line: Line) -> None:
    class Paused(MemoryBroker):
        """Holds back what is appended until it is let go."""

        def __init__(self, to: Broker) -> None:
            super().__init__()
            self.to = to
            self.go = asyncio.Event()
            self.ensure = to.ensure  # type: ignore[method-assign]
            self.bounds = to.bounds  # type: ignore[method-assign]
            self.reader = to.reader  # type: ignore[method-assign]

        async def append(
            self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
        ) -> int:
            await self.go.wait()
            return await self.to.append(topic, partition, headers, body)

    await line.publish(10)
    paused = Paused(line.broker)
    late = asyncio.create_task(line.publisher(paused).step())
    await asyncio.sleep(0)
    relay = line.relay()
    other = line.publisher()
    await other.step()
    await line.publish(5)
    await other.step()
    await line.reach(relay, 15)
    paused.go.set()
    await late
    await line.publish(5)
    await other.step()
    await line.reach(relay, 20)
    await line.reach(line.relay(), 20)  # another process begins, with the late packs in the log
    assert await line.queued() == line.all


async def test_what_the_broker_lost_it_is_given_again(line: Line) -> None:
    await line.publish(10)
    await line.publisher().step()
    await line.reach(line.relay(), 10)
    line.broker = MemoryBroker()  # another one, which has nothing
    await line.publish(5)
    publisher = line.publisher()
    await publisher.step()
    assert publisher.publishing.published == 15
    relay = line.relay()
    await line.reach(relay, 15)
    assert await line.queued() == line.all


async def test_a_gap_in_the_broker_is_filled_from_the_log(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await line.publish(5)
    publisher, relay = line.publisher(), line.relay()
    await publisher.step()
    await line.reach(relay, 5)
    await line.publish(5)
    # A stretch that nobody published: as if the broker had lost it in between.
    epoch = await line.source.outbox.epoch()
    rows = (await line.source.outbox.read(8, ["Placed"], 10)).rows
    headers = mark_headers(Mark(epoch=epoch, after=8, upto=10, of=3))
    body = CODEC.join([CODEC.encode(row) for row in rows])
    for partition in range(3):
        await line.broker.append(TOPIC, partition, headers, body if not partition else b"[]")
    await line.reach(relay, 10)
    assert "The broker lacks events of orders between 5 and 8" in caplog.text
    assert await line.queued() == line.all
    await line.publish(3)
    await line.publisher().step()
    await line.reach(relay, 13)
    assert await line.queued() == line.all


async def test_a_record_that_is_no_batch_is_told_and_made_up_for(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await line.publish(5)
    await line.broker.ensure(TOPIC, TOPICS)
    epoch = await line.source.outbox.epoch()
    for partition in range(3):
        headers = mark_headers(Mark(epoch=epoch, after=0, upto=5, of=3))
        await line.broker.append(TOPIC, partition, headers, b"spoilt")
    relay = line.relay()
    await line.reach(relay, 5)
    assert "is no batch of events (partition 0, offset 0)" in caplog.text
    assert await line.queued() == line.all


async def test_what_others_put_into_the_topic_is_passed_over(line: Line) -> None:
    await line.publish(5)
    await line.broker.ensure(TOPIC, TOPICS)
    for partition in range(3):
        await line.broker.append(TOPIC, partition, {"who": "somebody"}, b"hello")
        old = mark_headers(Mark(epoch="another log", after=0, upto=900, of=3))
        await line.broker.append(TOPIC, partition, old, b"[]")
    relay = line.relay()
    publisher = line.publisher()
    await publisher.step()
    await line.reach(relay, 5)
    for partition in range(3):  # and while it reads
        await line.broker.append(TOPIC, partition, {"who": "somebody"}, b"hello")
        await line.broker.append(TOPIC, partition, old, b"[]")
    await line.publish(5)
    await publisher.step()
    await line.reach(relay, 10)
    assert await line.queued() == line.all


async def test_what_the_broker_lost_while_it_was_away_is_given_again(line: Line) -> None:
    publisher = line.publisher()
    await line.publish(5)
    publisher.start()
    try:
        async with asyncio.timeout(10):
            while publisher.place != 5:
                await asyncio.sleep(0.001)
            line.broker._topics.clear()  # as if its disk had been new
            await line.publish(5)
            publisher.wake()
            while publisher.place != 10:
                await asyncio.sleep(0.001)
    finally:
        await publisher.stop()
    assert publisher.publishing.published == 15
    bounds = await line.broker.bounds(TOPIC)
    assert all(each.after > 0 for each in bounds)


async def test_a_topic_that_was_made_anew_is_found_again(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.path.broker_log._STILL_S", 0.05)
    log = line.log()
    relay = line.relay(log)
    await line.publish(5)
    await line.publisher().step()
    await line.reach(relay, 5)
    line.broker._topics.clear()  # whoever reads there waits for ever
    await line.publish(5)
    await line.publisher().step()
    async with asyncio.timeout(10):
        while log._cursors:  # a relay looks now and then
            await relay.step()
            await asyncio.sleep(0.01)
    await line.reach(relay, 10)
    assert await line.queued() == line.all


async def test_a_subscriber_from_before_all_that_the_broker_keeps_reads_the_log(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await line.publish(6)
    publisher = line.publisher()
    await publisher.step()
    line.broker = MemoryBroker()  # which keeps only what comes from now on
    await line.publish(4)
    await line.broker.ensure(TOPIC, TOPICS)
    epoch = await line.source.outbox.epoch()
    for partition in range(3):
        headers = mark_headers(Mark(epoch=epoch, after=6, upto=6, of=3))
        await line.broker.append(TOPIC, partition, headers, b"[]")
    again = line.publisher()
    await again.step()
    assert again.publishing.published == 4
    relay = line.relay()
    await line.reach(relay, 10)
    assert await line.queued() == line.all
    assert caplog.text == ""  # that it does not keep all is no fault of the broker's


async def test_who_begins_late_in_a_long_topic_does_not_read_all_of_it(line: Line) -> None:
    publisher = line.publisher()
    for _ in range(60):
        await line.publish(1)
        await publisher.step()
    first = line.relay()
    await line.reach(first, 60)

    class Counting(MemoryBroker):
        def __init__(self, to: Broker) -> None:
            super().__init__()
            self.ensure = to.ensure  # type: ignore[method-assign]
            self.bounds = to.bounds  # type: ignore[method-assign]
            self.to = to

        async def reader(self, topic: str, offsets: Any) -> Any:
            made.append(offsets)
            return await self.to.reader(topic, offsets)

    made: list[Any] = []
    await line.publish(1)
    await publisher.step()
    await line.reach(line.relay(line.log(Counting(line.broker))), 61)
    assert made[-1] == [60, 60, 60]  # the last one is where it reads on
    assert len(made) <= 9  # and was found by halves
    assert await line.queued() == line.all


async def test_a_delivery_that_failed_is_read_again(line: Line) -> None:
    await line.publish(10)
    await line.publisher().step()
    log = line.log()
    async with asyncio.timeout(10):
        while not (page := await log.read(0, ["Placed"], 4)).rows:
            await line.news.wait()
            line.news.clear()
    again = await log.read(0, ["Placed"], 4)
    assert again.rows == page.rows
    rest = await log.read(page.position, ["Placed"], 10)
    assert [row.message_id for row in (*page.rows, *rest.rows)] == line.all
    assert len(log._cursors) == 1


async def test_what_waits_to_be_read_is_bounded(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.path.broker_log._MOST_ROWS", 20)
    monkeypatch.setattr("tenfold.path.broker_log._MOST_RECORDS", 3)
    publisher = line.publisher(topics=TopicSettings(partitions=1))
    for _ in range(40):
        await line.publish(5)
        await publisher.step()
    log = line.log()
    relay = line.relay(log, batch=5)
    await relay.step()
    async with asyncio.timeout(10):
        await line.news.wait()
    for _ in range(200):
        await asyncio.sleep(0)
    assert log._cursors[0]._count <= 20 + 3 * 5
    await line.reach(relay, 200)
    assert await line.queued() == line.all


async def test_while_the_broker_is_away_events_wait_in_the_outbox(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(MemoryBroker):
        async def append(
            self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
        ) -> int:
            if self.away and partition == 1:
                raise BrokerUnavailableError("The broker does not answer.")
            return await super().append(topic, partition, headers, body)

        away = True

    broker = line.broker = Away()
    publisher = line.publisher()
    await line.publish(12)
    publisher.start()
    try:
        async with asyncio.timeout(10):
            while not publisher.publishing.failing:
                await asyncio.sleep(0.001)
            assert (
                "The relay of orders into broker could not deliver; nothing is lost" in caplog.text
            )
            broker.away = False
            while publisher.place != 12:
                await asyncio.sleep(0.001)
    finally:
        await publisher.stop()
    relay = line.relay()
    await line.reach(relay, 12)
    assert await line.queued() == line.all


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_ends_when_every_event_comes_once_and_in_order(
    line: Line, seed: int
) -> None:
    """Publishers that are killed, late, or two at once; relays that begin anew; a lost broker."""
    chance = random.Random(seed)

    class Flaky(MemoryBroker):
        async def append(
            self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
        ) -> int:
            if chance.random() < 0.15:
                raise BrokerUnavailableError("Not kept.")
            offset = await super().append(topic, partition, headers, body)
            if chance.random() < 0.15:
                raise BrokerUnavailableError("Kept, and not told.")
            return offset

    line.broker = Flaky()
    topics = TopicSettings(partitions=3, max_record_bytes=2_000)
    publishers = [line.publisher(topics=topics) for _ in range(2)]
    relay = line.relay(batch=chance.randrange(1, 20))
    for _ in range(60):
        what = chance.randrange(6)
        if what < 2:
            await line.publish(chance.randrange(1, 15))
        elif what < 4:
            number = chance.randrange(2)
            try:
                await publishers[number].step()
            except Exception:
                publishers[number] = line.publisher(topics=topics)
        elif what == 4:
            await relay.step()
        elif chance.random() < 0.3:
            relay = line.relay(batch=chance.randrange(1, 20))
        elif chance.random() < 0.1:
            line.broker = Flaky()
            publishers = [line.publisher(topics=topics) for _ in range(2)]
            relay = line.relay()
    while True:
        last = line.publisher(topics=topics)
        try:
            while await last.step():
                pass
            break
        except Exception:
            continue
    await line.reach(relay, line.told)
    assert await line.queued() == line.all
