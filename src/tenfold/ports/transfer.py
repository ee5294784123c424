"""The port of transfers: events carried inside a database that holds both their ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tenfold.contracts.structs import Struct

__all__ = ["Carried", "Follower", "Transfer"]


class Follower(Struct):
    """One subscription whose events are carried: its place, its lanes, what it asks for.

    `subscriber` begins the names of its lanes: the projection's name for a
    projection's handler, else the handler's own.
    """

    handler: str
    generation: int
    subscriber: str
    events: tuple[str, ...]
    priority: int = 0


class Carried(Struct):
    """What one transfer did.

    `read` events were looked at and `added` entries made of them. `position` is how
    far was looked; what is stored goes as far as the last event read. `lags_s` are
    the ages of the events by name, in seconds on the store's clock. `held` as in
    `OutboxPage`. `missing` are followers without a stored place, which got nothing:
    such as a projection's generation that another process has dropped.
    """

    read: int
    added: int
    position: int
    lags_s: dict[str, list[float]]
    held: bool = False
    missing: tuple[tuple[str, int], ...] = ()


class Transfer(Protocol):
    """Carries events from one source's outbox into one module's queue."""

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        """Read up to `limit` events after a position, add their entries, move the positions.

        All of it in one transaction. What is not above a follower's stored position
        was carried by another relay and is left out for it, so that relays that run
        at once neither lose nor duplicate. Entries come in the order of the log.

        Args:
            followers: subscriptions of the module to this source, at one position.
            limit: 1 to 5,000.
        """
        ...
