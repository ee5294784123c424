"""The port of read replicas: how new a caller's reads must be, and how new what it saw was."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol

__all__ = ["Freshness", "Replicas"]


class Freshness:
    """How new the reads of one message must be, and who answered them.

    `needed` is a place in the primary's log that whoever answers must have
    reached; None where only the primary will do. `touched` are those who have
    answered, so that it can be said afterwards how new the answer was.
    """

    __slots__ = ("needed", "touched")

    def __init__(self, needed: int | None) -> None:
        self.needed = needed
        self.touched: set[Hashable] = set()


class Replicas(Protocol):
    """The servers that hold one database: a primary, and replicas that follow its log.

    `server` names the database and `timeline` the history of its log: places of
    two timelines do not compare.
    """

    @property
    def server(self) -> str:
        """Which database: letters and digits."""
        ...

    @property
    def timeline(self) -> int:
        """The history that the primary writes now."""
        ...

    async def written(self) -> int:
        """A place in the primary's log that holds every commit answered so far.

        Raises: StoreUnavailableError.
        """
        ...

    async def seen(self, freshness: Freshness) -> int:
        """A place that holds all that the reads of one message can have seen.

        Raises: StoreUnavailableError.
        """
        ...
