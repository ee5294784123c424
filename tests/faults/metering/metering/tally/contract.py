"""What was heard of the meters."""

from __future__ import annotations

from typing import Protocol

from tenfold import Contract, Struct, query

__all__ = ["Sums", "Tally"]


class Sums(Struct):
    """Of all meters: events heard, the sum of their numbers, and those out of their order."""

    metered: int
    metered_sum: int
    sampled: int
    sampled_sum: int
    misordered: int


class Tally(Contract, Protocol):
    """What was heard."""

    @query("GET /v1/sums", who="anyone")
    async def sums(self) -> Sums:
        """All that was heard until now."""
        ...
