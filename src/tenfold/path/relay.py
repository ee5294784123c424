"""The relay of one subscribing module: carries events from outboxes into the module's queue.

    source's outbox ──read after position──> entries ──deliver──> queue, position moved

Entries and position are written in one transaction of the target, so an event
is in the queue exactly when the position is past it. Where two relays run, the
queue drops what the other one delivered. Feeds at the same place are read
together; a new one, such as a projection's new generation, reads by itself
until it has caught up. Where source and target share a database, the database
does all of this by itself (`Transfer`), and no event comes through here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.carrying import CarryThrough
from tenfold.path.queue import Worker
from tenfold.path.stops import Stop
from tenfold.ports.clock import Clock
from tenfold.ports.outbox import Log
from tenfold.ports.queue import Queue
from tenfold.ports.records import Delivery, SubscriptionKey
from tenfold.ports.transfer import Carried, Follower, Transfer

__all__ = ["Feed", "Relay", "RelayLimits", "RelayParts"]

_log = logging.getLogger("tenfold.relay")
_HELD_S = (0.002, 0.25)
"""The first and the longest sleep while committed events are above the horizon."""


class Feed(Struct):
    """One subscription as the relay serves it.

    `start` is where it begins when it has no position yet; one that begins with what is
    `kept` has no use for what was forgotten before. A `paced` feed is one
    that catches up beside the others: it never has more than a window of the log
    in the queue. One with a `batch` is handled in batches, past the queue.
    """

    handler: str
    source: str
    events: tuple[str, ...]
    generation: int = 1
    start: Literal["now", "beginning", "kept"] = "beginning"
    priority: int = 0
    paced: bool = False
    batch: int | None = None

    @property
    def key(self) -> SubscriptionKey:
        """Its place in the source's outbox."""
        return SubscriptionKey(handler=self.handler, generation=self.generation, source=self.source)

    @property
    def projected(self) -> bool:
        """Whether it feeds a projection: its handler's name is `projection.method`."""
        return "." in self.handler

    @property
    def follower(self) -> Follower:
        """What a transfer is told of it. The handlers of a projection are one subscriber."""
        return Follower(
            handler=self.handler,
            generation=self.generation,
            subscriber=self.handler.partition(".")[0],
            events=self.events,
            priority=self.priority,
        )


class RelayLimits(Struct):
    """`batch` outbox rows at a time, 1 to 1,000; `poll_s` is the longest sleep without a signal.

    `transfer` is the batch where the database carries by itself, 1 to 5,000. `window`
    is how many outbox rows a paced feed may be ahead of what is worked.
    """

    batch: int = 500
    transfer: int = 2000
    poll_s: float = 2.0
    window: int = 2000


class RelayParts(Struct):
    """What a relay works with. `sources` are the outboxes of all modules that are followed.

    `transfers` are those of the sources whose database holds the queue too.
    `on_added` is called when entries have come into the queue, beside the worker's
    `wake`: to tell other processes' workers.
    """

    module: str
    queue: Queue
    sources: Mapping[str, Log]
    worker: Worker
    clock: Clock
    stop: Stop
    limits: RelayLimits = RelayLimits()
    transfers: Mapping[str, Transfer] = msgspec.field(default_factory=dict)
    on_added: Callable[[], None] = lambda: None


class _Pace:
    """Where a paced feed was a window of rows ago. Positions do not tell: they have gaps."""

    def __init__(self, start: int, window: int) -> None:
        self._window = window
        self._rows = 0
        # What the process before has queued counts as a whole window.
        self._marks = deque([(-window, start)])

    def pass_by(self, rows: int, position: int) -> None:
        """A page was queued, which ended at a position."""
        self._rows += rows
        self._marks.append((self._rows, position))
        ago = self._rows - self._window
        while len(self._marks) > 1 and self._marks[1][0] <= ago:
            self._marks.popleft()

    @property
    def below(self) -> int:
        """The position up to which all has to be worked before more is queued."""
        return self._marks[0][1]


class Relay:
    """Follows the outboxes that one module subscribes to."""

    def __init__(self, parts: RelayParts, feeds: Iterable[Feed]) -> None:
        self._parts = parts
        self._feeds = {feed.key: feed for feed in feeds}
        self._stored: dict[SubscriptionKey, int] = {}
        self._looked: dict[SubscriptionKey, int] = {}
        self._carriers: dict[str, Transfer] = {
            source: CarryThrough(source, outbox, parts.queue, parts.clock)
            for source, outbox in parts.sources.items()
        } | dict(parts.transfers)
        self._paces: dict[SubscriptionKey, _Pace] = {}
        self._known = False
        self._held = False
        self._behind = False
        self._signal = asyncio.Event()
        self._resting = asyncio.Event()
        self._resting.set()
        self._lock = asyncio.Lock()
        self._loop_task: asyncio.Task[None] | None = None
        self.delivered = 0

    def start(self) -> None:
        """Begin to follow, from the stored positions; needs a running event loop.

        May be done again after `stop`: another process may have followed meanwhile.
        """
        for known in (self._looked, self._stored, self._paces):
            known.clear()
        self._known = False
        self._resting.clear()
        self._loop_task = asyncio.create_task(self._work(), name=f"relay {self._parts.module}")

    async def stop(self) -> None:
        """Stop at once: a delivery under way is committed whole, or not at all."""
        task, self._loop_task = self._loop_task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._resting.set()

    def wake(self) -> None:
        """Look at the outboxes now: something was committed. Cheap, and safe to call often."""
        if self._loop_task is not None:
            self._resting.clear()
        self._signal.set()

    @property
    def resting(self) -> bool:
        """Whether everything was delivered when it looked last, and nobody woke it since.

        One that is not started, since another process follows, rests too.
        """
        return self._resting.is_set()

    @property
    def behind(self) -> bool:
        """Whether events were committed that it may not read yet, when it looked last."""
        return self._behind

    async def wait_resting(self) -> None:
        """Return when everything that is committed has been delivered."""
        await self._resting.wait()

    @property
    def feeds(self) -> list[Feed]:
        """What it follows."""
        return list(self._feeds.values())

    def position(self, key: SubscriptionKey) -> int:
        """How far a subscription has looked: all its events up to there are in the queue."""
        return self._looked.get(key, 0)

    def follow(self, feeds: Iterable[Feed]) -> None:
        """Follow further feeds, each from its stored position or its start."""
        for feed in feeds:
            self._feeds[feed.key] = feed
        self._known = False
        self.wake()

    @asynccontextmanager
    async def exchanging(
        self, away: Iterable[SubscriptionKey] = ()
    ) -> AsyncIterator[list[SubscriptionKey]]:
        """Hold deliveries while feeds are given up; they are gone after the block succeeds.

        Without the hold a delivery under way could put entries of a dropped
        generation back into the queue. Gives the list of those that go, to which
        the block may add.
        """
        async with self._lock:
            going = list(away)
            yield going
            for key in going:
                self._forget(key)
        self.wake()

    async def step(self) -> bool:
        """Carry one batch of each group of feeds; whether any of them had more to read."""
        async with self._lock:
            if not self._known:
                await self._see_feeds()
            more = self._held = self._behind = False
            for (source, position), feeds in self._groups().items():
                if await self._held_back(feeds, position):
                    self._held = True
                else:
                    more = await self._carry(source, position, feeds) or more
            return more

    async def store_positions(self) -> None:
        """Write down how far it has looked where no entry came of it.

        Done now and then: between two writes a kill means only that rows without
        interest are looked at again.
        """
        async with self._lock:
            ahead = {k: p for k, p in self._looked.items() if p > self._stored.get(k, -1)}
            if ahead and self._known:
                await self._parts.queue.deliver(Delivery(entries=[], positions=ahead))
                self._stored.update(ahead)

    def _groups(self) -> dict[tuple[str, int], list[Feed]]:
        groups: dict[tuple[str, int], list[Feed]] = {}
        for key, feed in self._feeds.items():
            groups.setdefault((feed.source, self._looked[key]), []).append(feed)
        return groups

    async def _see_feeds(self) -> None:
        """Find the place of feeds that are seen for the first time in this process."""
        stored = await self._parts.queue.positions()
        begun: dict[SubscriptionKey, int] = {}
        heads: dict[str, int] = {}
        for key, feed in self._feeds.items():
            if key in self._looked:
                continue
            if feed.source not in heads:
                heads[feed.source] = await self._parts.sources[feed.source].head()
            if key not in stored:
                begun[key] = heads[feed.source] if feed.start == "now" else 0
                if feed.start == "beginning":
                    await self._warn_of_trimmed_log(feed)
            elif stored[key] > heads[feed.source]:
                self._warn_of_new_log(feed, stored[key], heads[feed.source])
        if begun:
            await self._parts.queue.deliver(Delivery(entries=[], positions=begun))
        for key in self._feeds:
            if key not in self._looked:
                self._looked[key] = self._stored[key] = stored.get(key, begun.get(key, 0))
        self._known = True

    async def _held_back(self, feeds: list[Feed], position: int) -> bool:
        """Whether a paced feed has a window of the log in the queue already."""
        if not all(feed.paced for feed in feeds):
            return False
        for feed in feeds:
            pace = self._paces.get(feed.key)
            if pace is None:
                pace = self._paces[feed.key] = _Pace(position, self._parts.limits.window)
            below = pace.below
            if below and await self._parts.queue.pending(feed.handler, feed.generation, below):
                return True
        return False

    async def _carry(self, source: str, position: int, feeds: list[Feed]) -> bool:
        """Carry one batch; whether there is more."""
        limits = self._parts.limits
        limit = limits.transfer if source in self._parts.transfers else limits.batch
        followers = [feed.follower for feed in feeds]
        carried = await self._carriers[source].carry(followers, position, limit)
        for name, lags_s in carried.lags_s.items():
            label = f"{name} -> {self._parts.module}"
            for lag_s in lags_s:
                self._parts.stop.observe(label, "ok", lag_s)
        if carried.added:
            self.delivered += carried.added
            self._parts.worker.wake()
            self._parts.on_added()
        self._pass_by(feeds, carried)
        for feed in feeds:
            if (feed.handler, feed.generation) in carried.missing:
                self._give_up(feed)
        return carried.read >= limit

    def _pass_by(self, feeds: list[Feed], carried: Carried) -> None:
        self._behind = self._behind or carried.held
        moved = any(self._looked.get(feed.key) != carried.position for feed in feeds)
        for feed in feeds:
            self._looked[feed.key] = carried.position
            if feed.key in self._paces:
                self._paces[feed.key].pass_by(carried.read, carried.position)
        if moved:
            self._parts.worker.moved.fire()

    def _give_up(self, feed: Feed) -> None:
        self._forget(feed.key)
        _log.warning(
            "%s.%s (generation %d) has no place in the log of %s any more: another process gave "
            "it up. It is not followed here from now on.",
            self._parts.module,
            feed.handler,
            feed.generation,
            feed.source,
        )

    def _forget(self, key: SubscriptionKey) -> None:
        for known in (self._feeds, self._looked, self._stored, self._paces):
            known.pop(key, None)

    async def _work(self) -> None:
        failures = 0
        held_s = _HELD_S[0]
        while True:
            self._signal.clear()
            try:
                more = await self.step()
                if self._behind and not more:
                    # Nobody tells when the transaction ends that keeps these events back.
                    await self._sleep(min(held_s, self._parts.limits.poll_s))
                    held_s = min(held_s * 2, _HELD_S[1])
                elif not more and not self._signal.is_set():
                    held_s = _HELD_S[0]
                    await self._rest()
                failures = 0
            except Exception as error:  # a store may be full or gone: positions stay, try again
                failures += 1
                self._known = False
                _log.error(
                    "The relay of %s into %s could not deliver; nothing is lost, since its "
                    "position stays where it was, and it tries again. %s",
                    ", ".join(self._parts.sources),
                    self._parts.module,
                    error_text(error),
                )
                await asyncio.sleep(min(0.05 * 2.0**failures, self._parts.limits.poll_s))

    async def _rest(self) -> None:
        # What is held back goes on when the worker has worked what is there; where the worker is
        # at rest too, something keeps it that only people mend.
        if not self._held or self._parts.worker.resting:
            self._resting.set()
        woken = await self._sleep(self._parts.limits.poll_s)
        if not woken:
            await self.store_positions()

    async def _sleep(self, wait_s: float) -> bool:
        """Until a signal; whether it came before the time was up."""
        woken = True

        def look() -> None:
            nonlocal woken
            woken = False
            self.wake()

        timer = asyncio.get_running_loop().call_later(wait_s, look)
        try:
            await self._signal.wait()
        finally:
            timer.cancel()
        return woken

    async def _warn_of_trimmed_log(self, feed: Feed) -> None:
        floor = await self._parts.sources[feed.source].floor()
        if floor > 0:
            _log.error(
                "%s.%s (generation %d) begins at the beginning of the log of %s, which was "
                "trimmed up to event %d: it is not told of those. Where it needs them, put back a "
                "copy of %s with the whole log.",
                self._parts.module,
                feed.handler,
                feed.generation,
                feed.source,
                floor,
                feed.source,
            )

    def _warn_of_new_log(self, feed: Feed, position: int, head: int) -> Any:
        _log.error(
            "The outbox of %s ends at %d, but %s.%s has read it up to %d: the database of %s was "
            "made anew or put back to an older state. Its next events up to %d are not delivered. "
            "Put the databases of both modules back to one moment.",
            feed.source,
            head,
            self._parts.module,
            feed.handler,
            position,
            feed.source,
            position,
        )
