"""Events carried from an outbox to a queue through this process, between two databases."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tenfold.ports.clock import Clock
from tenfold.ports.outbox import Log
from tenfold.ports.queue import Queue
from tenfold.ports.records import Delivery, OutboxRow, QueueEntry, SubscriptionKey
from tenfold.ports.transfer import Carried, Follower

__all__ = ["CarryThrough", "decide_ages", "decide_entries"]

MOST = 1000
"""Rows of an outbox that one read gives."""


def decide_entries(
    source: str, followers: Sequence[Follower], rows: Sequence[OutboxRow]
) -> list[QueueEntry]:
    """The queue entries that outbox rows mean to followers, in the rows' order.

    The lane is the subscriber's and the order key's within the tenant: keys do
    not block one another, nor do subscriptions. The handlers of a projection
    are one subscriber, since each builds on what the others did with the key.
    """
    by_name: dict[str, list[Follower]] = {}
    for follower in followers:
        for name in follower.events:
            by_name.setdefault(name, []).append(follower)
    return [
        QueueEntry(
            message_id=row.message_id,
            handler=follower.handler,
            tenant=row.tenant,
            body=row.body,
            generation=follower.generation,
            lane=None
            if row.order_key is None
            else f"{follower.subscriber}:{follower.generation}:{row.tenant}:{row.order_key}",
            priority=follower.priority,
            source=source,
            source_seq=row.seq,
        )
        for row in rows
        for follower in by_name.get(row.name, ())
    ]


def decide_ages(rows: Sequence[OutboxRow], now: datetime) -> dict[str, list[float]]:
    """The ages of events by their names, in seconds."""
    ages_s: dict[str, list[float]] = {}
    for row in rows:
        ages_s.setdefault(row.name, []).append(max((now - row.at).total_seconds(), 0.0))
    return ages_s


class CarryThrough:
    """Implements `Transfer` for any two databases: reads from one, then delivers to the other.

    Between the two a kill means only that the same rows are read again.

    Args:
        source: the publishing module's name.
        outbox: its log.
        queue: of the module that subscribes.
        clock: for the ages of events.
    """

    def __init__(self, source: str, outbox: Log, queue: Queue, clock: Clock) -> None:
        self._source = source
        self._outbox = outbox
        self._queue = queue
        self._clock = clock

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        """Carry up to `limit` events, at most 1,000. See `Transfer.carry`."""
        names = sorted({name for follower in followers for name in follower.events})
        page = await self._outbox.read(after, names, min(limit, MOST))
        entries = decide_entries(self._source, followers, page.rows)
        lags_s: dict[str, list[float]] = {}
        added = 0
        if entries:
            positions = {
                SubscriptionKey(
                    handler=follower.handler, generation=follower.generation, source=self._source
                ): page.position
                for follower in followers
            }
            added = await self._queue.deliver(Delivery(entries=entries, positions=positions))
            lags_s = decide_ages(page.rows, self._clock.now())
        return Carried(
            read=len(page.rows),
            added=added,
            position=page.position,
            lags_s=lags_s,
            held=page.held,
        )
