"""Outbox to broker: one module's events, published in the order of its log.

    outbox ──read after position──> packs ──append to every partition──> position moved

The position is written after the broker has kept a round, so a kill between the two
publishes the round again, which readers know by its stretch (`packs`). What the broker
lost of what it had acknowledged, it is given again: before it begins, and after every
failure, the publisher looks how far each partition really goes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.cloud_events import CONTENT_TYPE, CloudEventCodec
from tenfold.path.packs import Mark, Packable, Plan, decide_packs, mark_headers, read_mark
from tenfold.path.stops import Stop
from tenfold.ports.broker import Broker, TopicSettings
from tenfold.ports.clock import Clock
from tenfold.ports.outbox import Log
from tenfold.ports.queue import Queue
from tenfold.ports.records import Delivery, OutboxPage, SubscriptionKey

__all__ = ["Publisher", "PublisherParts", "decide_begin", "publisher_key", "tails", "topic_of"]

_log = logging.getLogger("tenfold.publisher")
_HELD_S: Final = (0.002, 0.25)
"""The first and the longest sleep while committed events are above the horizon."""
_LONGEST_S: Final = 2.0
"""The longest sleep, after a failure or without a signal."""
_ROUND: Final = 1_000
_TAIL_S: Final = 5.0


class PublisherParts(Struct):
    """What a publisher works with.

    `names` are the events that the module declares. `queue` is the module's own, which
    keeps the publisher's position beside those of subscriptions, so that what is not
    published is not trimmed either.
    """

    product: str
    module: str
    names: tuple[str, ...]
    outbox: Log
    queue: Queue
    broker: Broker
    topics: TopicSettings
    codec: CloudEventCodec
    clock: Clock
    stop: Stop


def topic_of(product: str, module: str) -> str:
    """The topic of a module's events."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in product)
    return f"{plain}.{module}"


def publisher_key(module: str) -> SubscriptionKey:
    """Under which a publisher keeps its position. No handler can have its name."""
    return SubscriptionKey(handler="tenfold:broker", generation=1, source=module)


def decide_begin(stored: int, kept: list[Mark | None], fresh: bool, epoch: str) -> int:
    """Where a publisher begins: up to there every partition has everything.

    Args:
        stored: its own position; 0 where it has none.
        kept: the newest mark of each partition; None where none is kept.
        fresh: whether the topic has never had a record.
        epoch: of the log as it is now. Marks of another one count as none.
    """
    if fresh:
        return 0
    reached = [mark.upto for mark in kept if mark is not None and mark.epoch == epoch]
    if len(reached) == len(kept):
        return min(reached)
    if reached:  # a partition that lacks what others have was to be given it in the same round
        return min(*reached, stored)
    return 0 if any(kept) else stored  # of another log, or trimmed by age


async def tails(broker: Broker, topic: str) -> tuple[list[Mark | None], bool]:
    """The newest mark of each partition, and whether the topic never had a record.

    Raises: BrokerUnavailableError.
    """
    bounds = await broker.bounds(topic)
    marks: list[Mark | None] = [None] * len(bounds)
    waiting = {n for n, each in enumerate(bounds) if each.after > each.first}
    fresh = all(each.after == 0 for each in bounds)
    if not waiting:
        return marks, fresh
    reader = await broker.reader(topic, [max(each.first, each.after - 1) for each in bounds])
    try:
        until = asyncio.get_running_loop().time() + _TAIL_S
        while waiting and (left_s := until - asyncio.get_running_loop().time()) > 0:
            for record in await reader.take(wait_s=left_s):
                marks[record.partition] = read_mark(record.headers) or marks[record.partition]
                waiting.discard(record.partition)
    finally:
        await reader.close()
    return marks, fresh


class Publisher:
    """Publishes one module's events. One works at a time; a second one does no harm."""

    def __init__(self, parts: PublisherParts) -> None:
        self._parts = parts
        self.topic = topic_of(parts.product, parts.module)
        self._key = publisher_key(parts.module)
        self._position: int | None = None
        self._stored = -1
        self._epoch = ""
        self._partitions = 0
        self._signal = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.published = 0
        """Events that this process has published."""
        self.failing = False
        """Whether the last round failed."""

    @property
    def position(self) -> int | None:
        """Up to where all is published; None until it has looked."""
        return self._position

    def start(self) -> None:
        """Begin at the stored position; needs a running event loop. May be done again."""
        self._position = None
        self._task = asyncio.create_task(self._work(), name=f"publisher {self._parts.module}")

    async def stop(self) -> None:
        """Stop at once: what is under way may be kept by the broker, and is published again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        """Look at the outbox now: something was committed. Cheap, and safe to call often."""
        self._signal.set()

    async def step(self) -> OutboxPage:
        """Publish one round. Raises: BrokerUnavailableError and what stores raise."""
        if self._position is None:
            await self._begin()
        after = self._position or 0
        page = await self._parts.outbox.read(after, self._parts.names, _ROUND)
        if page.rows:
            await self._publish(page, after)
            await self._store(page.position)
        self._position = max(page.position, after)
        return page

    async def _begin(self) -> None:
        parts = self._parts
        self._partitions = await parts.broker.ensure(self.topic, parts.topics)
        self._epoch = await parts.outbox.epoch()
        stored = (await parts.queue.positions()).get(self._key, 0)
        kept, fresh = await tails(parts.broker, self.topic)
        begin = decide_begin(stored, kept, fresh, self._epoch)
        if begin < stored:
            _log.warning(
                "The broker has the events of %s up to %d, and had acknowledged them up to %d. "
                "They are published again from there; subscribers leave out what they have.",
                parts.module,
                begin,
                stored,
            )
        self._position, self._stored = begin, stored

    async def _publish(self, page: OutboxPage, after: int) -> None:
        parts = self._parts
        events = [
            Packable(
                seq=row.seq,
                key=row.message_id if row.order_key is None else row.order_key,
                body=parts.codec.encode(row),
            )
            for row in page.rows
        ]
        plans = decide_packs(
            events, after, page.position, self._partitions, parts.topics.max_record_bytes
        )
        # All partitions at once, and within each one after the other: a later pack is never
        # there without an earlier one.
        async with asyncio.TaskGroup() as group:
            for partition, packs in enumerate(plans):
                group.create_task(self._append(partition, packs, events))
        now = parts.clock.now()
        for row in page.rows:
            lag_s = max((now - row.at).total_seconds(), 0.0)
            parts.stop.observe(f"{row.name} -> broker", "ok", lag_s)
        self.published += len(page.rows)

    async def _append(self, partition: int, packs: list[Plan], events: list[Packable]) -> None:
        for plan in packs:
            mark = Mark(epoch=self._epoch, after=plan.after, upto=plan.upto)
            headers = {"content-type": CONTENT_TYPE, **mark_headers(mark)}
            body = self._parts.codec.join([events[n].body for n in plan.events])
            await self._parts.broker.append(self.topic, partition, headers, body)

    async def _store(self, position: int) -> None:
        delivery = Delivery(entries=[], positions={self._key: position})
        await self._parts.queue.deliver(delivery)
        self._stored = position

    async def _work(self) -> None:
        failures = 0
        held_s = _HELD_S[0]
        while True:
            self._signal.clear()
            try:
                page = await self.step()
                failures, self.failing = 0, False
                if len(page.rows) >= _ROUND:
                    continue
                if page.held:
                    # Nobody tells when the transaction ends that keeps these events back.
                    await self._sleep(held_s)
                    held_s = min(held_s * 2, _HELD_S[1])
                    continue
                held_s = _HELD_S[0]
                if not await self._sleep(_LONGEST_S) and (self._position or 0) > self._stored:
                    await self._store(self._position or 0)
            except Exception as error:  # of whatever kind: the outbox keeps what is not published
                failures += 1
                self.failing = True
                self._position = None  # how far the broker has come is to be seen anew
                _log.error(
                    "The events of %s could not be published; they wait in its outbox, and it "
                    "tries again. %s",
                    self._parts.module,
                    error_text(_first(error)),
                )
                await asyncio.sleep(min(0.05 * 2.0**failures, _LONGEST_S))

    async def _sleep(self, wait_s: float) -> bool:
        """Until a signal; whether it came before the time was up."""
        try:
            async with asyncio.timeout(wait_s):
                await self._signal.wait()
        except TimeoutError:
            return False
        return True


def _first(error: BaseException) -> BaseException:
    """What went wrong first, of several partitions."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
