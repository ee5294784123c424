"""Retention: what the platform's own records forget, and when.

The outbox is the log: it is kept for as long as its module declares, and in any
case until the slowest subscriber has read it. The inbox remembers for longer
than any message can come again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta

from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.publishing import PUBLISHER
from tenfold.path.relay import Feed, Relay
from tenfold.ports.clock import Clock
from tenfold.ports.outbox import Outbox
from tenfold.ports.queue import Queue
from tenfold.ports.records import SubscriptionKey

__all__ = ["Retained", "Retention", "RetentionParts", "decide_trim"]

_log = logging.getLogger("tenfold.retention")


class Retained(Struct):
    """One module's records.

    `retain_days` is of its outbox; None keeps it for ever. `relay` is None for a
    module that subscribes to nothing. One that is not `own` is another service's: it
    is not trimmed here, and `feeds` are what it follows.
    """

    outbox: Outbox
    queue: Queue
    relay: Relay | None
    retain_days: int | None = None
    own: bool = True
    feeds: tuple[Feed, ...] = ()


class RetentionParts(Struct):
    """What retention works with.

    `inbox_days` is how long an effect is remembered. Where nothing is published to a broker
    any more (`published`), the place that a publisher had holds no log.
    """

    modules: Mapping[str, Retained]
    clock: Clock
    published: bool = True
    inbox_days: int = 7
    every_s: float = 3600.0


def decide_trim(
    source: str,
    followers: set[tuple[str, SubscriptionKey]],
    stored: Mapping[tuple[str, SubscriptionKey], int],
) -> int | None:
    """Up to where an outbox may be forgotten: the place of its slowest subscriber.

    Subscribers are named with their modules, which may have handlers of one name.
    A follower without a stored place has read nothing. A stored place whose
    handler this code does not have holds the log too: during a roll-out it is
    other code's. Returns None where nobody follows, so that age alone decides.
    """
    places = [0 for who in followers if who[1].source == source and who not in stored]
    places += [place for (_, key), place in stored.items() if key.source == source]
    return min(places, default=None)


class Retention:
    """Trims outboxes, inboxes and replies, now and then."""

    def __init__(self, parts: RetentionParts) -> None:
        self._parts = parts
        self._loop_task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a first round after the first pause; needs a running event loop."""
        self._loop_task = asyncio.create_task(self._work(), name="retention")

    async def stop(self) -> None:
        """Stop; a bite under way is committed whole, or not at all."""
        if self._loop_task is not None:
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])

    async def trim(self) -> dict[str, int]:
        """One round; returns by module how many records were forgotten."""
        now = self._parts.clock.now()
        stored: dict[tuple[str, SubscriptionKey], int] = {}
        followers: set[tuple[str, SubscriptionKey]] = set()
        for name, module in self._parts.modules.items():
            if module.relay is not None:
                await module.relay.store_positions()
                followers.update((name, feed.key) for feed in module.relay.feeds)
            places = {
                key: place
                for key, place in (await module.queue.positions()).items()
                if self._parts.published or key.handler != PUBLISHER
            }
            stored.update(((name, key), place) for key, place in places.items())
            # Which generations another service follows with, only its places say.
            begun = {(key.handler, key.source) for key in places}
            followers.update(
                (name, feed.key)
                for feed in module.feeds
                if (feed.handler, feed.source) not in begun
            )
        forgotten: dict[str, int] = {}
        for name, module in self._parts.modules.items():
            if not module.own:
                continue
            count = await module.queue.trim(now - timedelta(days=self._parts.inbox_days))
            if module.retain_days is not None:
                up_to = decide_trim(name, followers, stored)
                before = now - timedelta(days=module.retain_days)
                head = await module.outbox.head()
                count += await module.outbox.trim(before, head if up_to is None else up_to)
            forgotten[name] = count
        return forgotten

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(self._parts.every_s)
            try:
                await self.trim()
            except Exception as error:  # nothing depends on it: the next round makes up for it
                _log.error("Old records were not forgotten this time. %s", error_text(error))
