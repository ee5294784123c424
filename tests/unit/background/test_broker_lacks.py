"""What a broker does not have, or not any more: the log has it, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from tenfold.adapters.memory.broker import MemoryBroker, MemoryReader
from tenfold.ports.broker import TopicSettings
from tests.unit.background.broker_line import TOPIC, TOPICS, Line, placed

pytestmark = pytest.mark.anyio


async def test_partitions_that_are_added_lose_no_event_for_who_reads(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    publisher, relay = line.publisher(), line.relay()
    await line.publish(10)
    await publisher.step()
    await line.reach(relay, 10)
    topic = line.broker._topics[TOPIC]
    topic.logs += [[] for _ in range(4)]
    topic.floors += [0] * 4
    await line.publish(10)
    await publisher.step()  # it has not seen them yet
    await line.reach(relay, 20)
    await line.publish(10)
    await line.publisher().step()
    assert any(topic.logs[n] for n in range(3, 7))
    await line.reach(relay, 30)
    assert "is read in 3 partitions, and its publisher has put events of orders into 7" in (
        caplog.text
    )
    await line.publish(10)
    await line.publisher().step()
    await line.reach(relay, 40)
    assert await line.queued() == line.all


async def test_a_publisher_sees_by_itself_what_has_changed_at_the_broker(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = line.publisher()
    await line.publish(10)
    await publisher.step()
    line.broker._topics.clear()
    await line.broker.ensure(TOPIC, TopicSettings(partitions=5))
    monkeypatch.setattr("tenfold.path.publishing._LOOK_S", -1.0)
    await publisher.step()  # though nothing is new
    assert publisher.publishing.published == 20
    assert all(each.after > 0 for each in await line.broker.bounds(TOPIC))
    await line.reach(line.relay(), 10)
    assert await line.queued() == line.all


async def test_events_that_the_publishers_code_does_not_know_are_published(line: Line) -> None:
    await line.publish(3, name="Newer")
    await line.publisher().step()
    log = line.log(name="Newer")
    async with asyncio.timeout(10):
        while not (page := await log.read(0, ["Newer"], 10)).rows:
            await line.news.wait()
    assert [row.message_id for row in page.rows] == line.all
    assert len(log._cursors) == 1  # which came by the broker


async def test_what_was_forgotten_by_age_is_read_from_the_log_without_waiting(line: Line) -> None:
    await line.publish(10)
    await line.publisher().step()
    for partition, each in enumerate(await line.broker.bounds(TOPIC)):
        line.broker.trim(TOPIC, partition, each.after)
    relay = line.relay()
    while await relay.step():
        pass
    assert await line.queued() == line.all


async def test_what_is_published_by_nobody_is_read_from_the_log(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("tenfold.path.broker_log._STILL_S", 0.05)
    relay = line.relay()
    await line.publish(5)
    await line.publisher().step()
    await line.reach(relay, 5)
    await line.publish(5)
    async with asyncio.timeout(10):
        while len(await line.queued()) < 10:  # a relay looks now and then
            await relay.step()
            await asyncio.sleep(0.01)
    assert await line.queued() == line.all
    assert "nothing of orders has come from the broker, whose log has more" in caplog.text


async def test_a_partition_that_stands_still_holds_up_nobody_while_others_go_on(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Holed(MemoryBroker):
        """Acknowledges what it does not keep."""

        async def append(
            self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
        ) -> None:
            if partition != 1:
                await super().append(topic, partition, headers, body)

    await line.publish(5)
    await line.publisher().step()
    holed = Holed()
    holed._topics = line.broker._topics
    monkeypatch.setattr("tenfold.path.broker_log._STILL_S", 0.05)
    relay, publisher = line.relay(), line.publisher(holed)
    await line.reach(relay, 5)
    async with asyncio.timeout(10):
        while relay.position(next(iter(relay._feeds))) < 15:
            await line.publish(1)
            await publisher.step()
            await relay.step()
            await asyncio.sleep(0.001)
    assert await line.queued() == [f"m{n}" for n in range(len(await line.queued()))]


async def test_more_places_than_are_kept_open_are_all_served(line: Line) -> None:
    await line.publish(60)
    await line.publisher(topics=TOPICS).step()
    log = line.log()
    got: dict[int, Sequence[str]] = {}
    async with asyncio.timeout(10):
        while len(got) < 6:
            for place in range(0, 60, 10):
                page = await log.read(place, ["Placed"], 10)
                if page.rows:
                    got[place] = [row.message_id for row in page.rows]
                await asyncio.sleep(0.001)
    assert got == {place: line.all[place : place + 10] for place in range(0, 60, 10)}
    assert len(log._cursors) == 4
    # Who has not asked for long makes room.
    for each in log._cursors:
        each._asked_s -= 60
    new = next(n for n in range(60) if not any(each.covers(n) for each in log._cursors))
    await log.read(new, ["Placed"], 10)
    assert len(log._cursors) == 1


async def test_an_event_that_the_broker_does_not_take_stops_nobody(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    await line.broker.ensure(TOPIC, TopicSettings(partitions=3, max_record_bytes=1100))
    publisher, relay = line.publisher(), line.relay()
    await line.publish(20)
    large = placed(line.told, line.source, payload={"text": "x" * 2000})
    await line.source.publish([large])
    line.told += 1
    await line.publish(20)
    await publisher.step()
    await line.reach(relay, 41)
    assert await line.queued() == line.all
    assert "Event 21 of orders does not go through the broker" in caplog.text
    assert caplog.text.count("does not go through") == 1
    await line.publish(5)
    await publisher.step()
    await line.reach(relay, 46)
    assert await line.queued() == line.all


async def test_who_is_far_behind_does_not_seek_for_every_page(line: Line) -> None:
    class Counting(MemoryBroker):
        made = 0

        async def reader(self, topic: str, offsets: Sequence[int]) -> MemoryReader:
            self.made += 1
            return await super().reader(topic, offsets)

    broker = line.broker = Counting()
    publisher = line.publisher()
    for _ in range(40):
        await line.publish(5)
        await publisher.step()
    for partition in range(3):
        line.broker.trim(TOPIC, partition, 30)
    broker.made = 0
    log = line.log()
    relay = line.relay(log, batch=5)
    for _ in range(30):
        await relay.step()
    assert len(await line.queued()) == 150  # all from the log
    assert broker.made == 1
    await line.reach(relay, 200)
    assert await line.queued() == line.all
    assert len(log._cursors) == 1
