"""How far a projection has come, by what is stored: for processes that do not relay themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tenfold.path.relay import Feed
from tenfold.path.signals import Signal
from tenfold.ports.outbox import Log
from tenfold.ports.queue import Queue
from tenfold.ports.records import SubscriptionKey

__all__ = ["StoredProgress"]

LOOK_S = 0.02
"""Between two looks at the database: nobody tells what another process has worked."""


class StoredProgress:
    """Implements `ProjectionProgress` from the database alone.

    A relay's stored place lags behind what it has looked at where nothing was of
    interest; so what lies between that place and the position that is asked for is
    counted. An event is in the log, then in the queue from the moment on in which
    the place moves past it, until it has had its effect; asked in this order, none
    is overlooked on its way.

    Args:
        queue: of the module whose projections these are.
        sources: the logs that they follow.
        feeds: of each projection, by its name; their generations do not matter.
        active: the generation that answers, by the projection's name.
        moved: fires when this process has worked something.
    """

    def __init__(
        self,
        queue: Queue,
        sources: Mapping[str, Log],
        feeds: Mapping[str, Sequence[Feed]],
        active: Callable[[str], int],
        moved: Signal,
    ) -> None:
        self._queue = queue
        self._sources = sources
        self._feeds = feeds
        self._active = active
        self._moved = moved

    async def reached(self, projection: str, source: str, position: int) -> bool:
        """Whether the generation that answers has worked every event of `source` up to `position`.

        A projection that does not follow the source has nothing to wait for.
        """
        feeds = [feed for feed in self._feeds[projection] if feed.source == source]
        if not feeds:
            return True
        generation = self._active(projection)
        stored = await self._queue.positions()
        for feed in feeds:
            key = SubscriptionKey(handler=feed.handler, generation=generation, source=source)
            place = stored.get(key)
            if place is None:
                return False  # dropped meanwhile, or never begun
            if place < position and await self._more(feed, place, position):
                return False
            if await self._queue.pending(feed.handler, generation, position):
                return False
        return True

    async def _more(self, feed: Feed, place: int, position: int) -> bool:
        return await self._sources[feed.source].count(feed.events, place, position, 1) > 0

    async def wait(self) -> None:
        """Until this process has worked something, or a moment has passed."""
        await self._moved.wait(LOOK_S)
