"""The port of the outbox: the log of a module's published events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tenfold.ports.records import OutboxPage, ReplyKey, StoredReply

__all__ = ["Log", "Outbox", "Replies"]


class Log(Protocol):
    """The log of one module's events, for whoever follows it."""

    async def epoch(self) -> str:
        """The identity of this log; another one after the database was made anew."""
        ...

    async def head(self) -> int:
        """How far the log may be read now; 0 where there never was an event.

        The position of the newest event, forgotten ones included, that `read` gives:
        one that is committed while an older transaction is still open lies above it
        until that one has ended. So what begins at the head misses nothing that is
        committed from now on, and what has reached it has read all that can be read.
        """
        ...

    async def floor(self) -> int:
        """The position of the newest forgotten event; 0 while the log is whole."""
        ...

    async def read(self, after: int, names: Sequence[str], limit: int) -> OutboxPage:
        """Committed events of these names after a position, in commit order.

        Never skips one that commits later than its neighbours. `limit` is 1 to 1,000.
        """
        ...

    async def count(self, names: Sequence[str], after: int, up_to: int, most: int) -> int:
        """How many committed events of these names lie after one position, up to another.

        Those above the head count too. Stops counting at `most`.
        """
        ...


class Outbox(Log, Protocol):
    """One module's outbox, where it is written. Rows are written only by its units of work."""

    async def read(self, after: int, names: Sequence[str] | None, limit: int) -> OutboxPage:
        """See `Log.read`; None as the names reads all events, whatever they are called."""
        ...

    async def has(self, names: Sequence[str], order_key: str, tenant: str) -> bool:
        """Whether an event of one of these names with this order key was published."""
        ...

    async def trim(self, before: datetime, up_to: int) -> int:
        """Forget events older than `before`, none after `up_to`; returns how many."""
        ...


class Replies(Protocol):
    """The stored replies of keyed commands."""

    async def find(self, key: ReplyKey) -> StoredReply | None:
        """The reply stored under a key, whatever its fingerprint; None where there is none."""
        ...
