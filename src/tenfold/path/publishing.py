"""Outbox to broker: one module's events, published in the order of its log.

    outbox ──read after position──> packs ──append to every partition──> position moved

The position is written after the broker has kept a round, so a kill between the two
publishes the round again, which readers know by its stretch (`packs`). What the broker
lost of what it had acknowledged, it is given again: before it begins, after every failure,
and now and then, the publisher looks how many partitions there are and how far each really
goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final

from tenfold.contracts.structs import Struct
from tenfold.path.broker_places import tails
from tenfold.path.carrying import MOST, decide_ages
from tenfold.path.cloud_events import CONTENT_TYPE, CloudEventCodec
from tenfold.path.packs import Mark, Packable, Plan, decide_packs, halves, mark_headers
from tenfold.path.relay import Feed
from tenfold.ports.broker import Broker, TopicSettings
from tenfold.ports.clock import Clock
from tenfold.ports.outbox import Outbox
from tenfold.ports.queue import Queue
from tenfold.ports.records import Delivery, OutboxPage
from tenfold.ports.transfer import Carried, Follower

__all__ = [
    "PUBLISHER",
    "Publishing",
    "PublishingParts",
    "decide_begin",
    "publisher_feed",
    "topic_of",
]

_log = logging.getLogger("tenfold.publisher")
PUBLISHER: Final = "tenfold:broker"
"""Whose place in a log the publisher's is. No handler can have its name."""
_LOOK_S: Final = 60.0
"""After how long it looks again how far the broker really has come."""


class PublishingParts(Struct):
    """What a module's events are published with.

    `queue` is the module's own, which keeps the publisher's position beside those of
    subscriptions, so that what is not published is not trimmed either.
    """

    product: str
    module: str
    outbox: Outbox
    queue: Queue
    broker: Broker
    topics: TopicSettings
    codec: CloudEventCodec
    clock: Clock


def topic_of(product: str, module: str) -> str:
    """The topic of a module's events."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in product)
    return f"{plain}.{module}"


def publisher_feed(module: str) -> Feed:
    """What a relay follows to publish a module's events: all of them.

    During a roll-out whoever publishes may be older code than what has published into the
    log, and not know the names of all that is in it.
    """
    return Feed(handler=PUBLISHER, source=module, events=(), start="kept")


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


class Publishing:
    """Implements `Transfer` from a module's log to the broker: what it carries, it publishes.

    The relay that carries with it has one feed, `publisher_feed`. One works at a time; a
    second one does no harm.
    """

    def __init__(self, parts: PublishingParts) -> None:
        self._parts = parts
        self._topic = topic_of(parts.product, parts.module)
        self._key = publisher_feed(parts.module).key
        self._at: int | None = None
        """Up to where the broker has all; None where that is to be seen anew."""
        self._looked_s = 0.0
        self._epoch = ""
        self._partitions = 0
        self.published = 0
        """Events that this process has published."""
        self.failing = False
        """Whether the last round failed."""

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        """Publish up to `limit` events after a position, and move it. See `Transfer.carry`.

        It goes on from where the broker has come to, which may be before the position, or
        behind it.

        Raises: BrokerUnavailableError and what stores raise: it waits in the outbox then.
        """
        now_s = asyncio.get_running_loop().time()
        try:
            at = after
            if after != self._at or now_s - self._looked_s > _LOOK_S:
                at = await self._begin(after)
                self._looked_s = now_s
            page = await self._parts.outbox.read(at, None, min(limit, MOST))
            if page.rows:
                await self._publish(page, at)
                moved = {self._key: page.position}
                await self._parts.queue.deliver(Delivery(entries=[], positions=moved))
        except BaseException as error:
            self._at = None
            self.failing = isinstance(error, Exception)
            raise
        self.failing = False
        self._at = max(page.position, at)
        return Carried(
            read=len(page.rows),
            added=0,
            position=self._at,
            lags_s=decide_ages(page.rows, self._parts.clock.now()),
            held=page.held,
        )

    async def _begin(self, stored: int) -> int:
        parts = self._parts
        self._partitions = await parts.broker.ensure(self._topic, parts.topics)
        self._epoch = await parts.outbox.epoch()
        kept, fresh = await tails(parts.broker, self._topic)
        begin = decide_begin(stored, kept, fresh, self._epoch)
        if begin < stored:
            _log.warning(
                "The broker has the events of %s up to %d, and had acknowledged them up to %d. "
                "They are published again from there; subscribers leave out what they have.",
                parts.module,
                begin,
                stored,
            )
        return begin

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
        try:
            async with asyncio.TaskGroup() as group:
                for partition, packs in enumerate(plans):
                    group.create_task(self._append(partition, packs, events))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        self.published += len(page.rows)

    async def _append(self, partition: int, packs: list[Plan], events: list[Packable]) -> None:
        waiting = deque(packs)
        while waiting:
            plan = waiting.popleft()
            try:
                await self._append_one(partition, plan, events)
            except ValueError as error:
                if len(plan.events) > 1:  # the topic was made by others, for smaller records
                    waiting.extendleft(reversed(halves(plan, events)))
                    continue
                if not plan.events:
                    raise
                _log.error(
                    "Event %d of %s does not go through the broker: %s Subscribers read it from "
                    "the log of %s. Publish large things as a blob's name, or let the topic take "
                    "larger records, and set `max_record_bytes`.",
                    events[plan.events[0]].seq,
                    self._parts.module,
                    error,
                    self._parts.module,
                )
                # A gap, which readers fill from the log.
                gap = Plan(after=plan.upto, upto=plan.upto, events=())
                await self._append_one(partition, gap, events)

    async def _append_one(self, partition: int, plan: Plan, events: list[Packable]) -> None:
        mark = Mark(epoch=self._epoch, after=plan.after, upto=plan.upto, of=self._partitions)
        headers = {"content-type": CONTENT_TYPE, **mark_headers(mark)}
        body = self._parts.codec.join([events[n].body for n in plan.events])
        await self._parts.broker.append(self._topic, partition, headers, body)
