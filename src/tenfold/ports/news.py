"""What a store tells its own process after a commit."""

from __future__ import annotations

__all__ = ["CommitNews"]


class CommitNews:
    """What a commit holds for others: events up to a position, or queue entries.

    `head` is 0 where it holds no events.
    """

    __slots__ = ("entries", "head")

    def __init__(self) -> None:
        self.head = 0
        self.entries = False
