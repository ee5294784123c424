"""What the cache counts of one operation."""

from __future__ import annotations

__all__ = ["CacheCounts"]


class CacheCounts:
    """Answers by where they came from, and what became of fills. Grows from the start on."""

    __slots__ = (
        "confirmed",
        "computed",
        "early",
        "failed",
        "first",
        "outdated",
        "passed",
        "shared",
        "stale",
        "without",
    )

    def __init__(self) -> None:
        self.first = 0
        """Answered by the first tier."""
        self.shared = 0
        """Fills that the shared tier answered."""
        self.computed = 0
        """Fills that ran the handler."""
        self.early = 0
        """Of those, begun before the answer had expired."""
        self.outdated = 0
        """Computed, and not kept, since a tag was dropped meanwhile or a newer one was there."""
        self.failed = 0
        """Fills that ended with a refusal or an error, which is not kept."""
        self.stale = 0
        """Fills that gave an expired answer, since no new one could be had."""
        self.confirmed = 0
        """Answers that the shared tier confirmed to a caller who had seen more of the database."""
        self.passed = 0
        """Kept answers that were passed by, since their caller had seen something newer."""
        self.without = 0
        """Fills that found the shared tier away."""
