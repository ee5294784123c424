"""The port of the cache: kept answers that are never older than their invalidation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Protocol

import msgspec

from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.structs import Struct

__all__ = [
    "Cache",
    "CacheSettings",
    "CacheUnavailableError",
    "Claim",
    "FirstTier",
    "Follower",
    "Found",
    "Purger",
    "PurgeFailedError",
    "Slot",
    "Wish",
]


class CacheUnavailableError(TenfoldError):
    """The shared cache did not answer in time; the product goes on without it, slower."""

    code = "cache.unavailable"


class PurgeFailedError(TenfoldError):
    """What stands before the product did not take a purge; it is sent again."""

    code = "cache.purge_failed"


class CacheSettings(Struct):
    """What a product keeps of its answers, and where: `[topologies.X.cache]`.

    `url` is a Valkey server (`valkey://host:port/number`); without one each
    process keeps answers for itself. `entries` and `max_bytes` bound what a
    process keeps. `timeout_ms` bounds each word with the server: past it the
    product goes on without. `purge_url` is told which tags a CDN shall drop.
    """

    url: str | None = None
    entries: Annotated[int, msgspec.Meta(ge=1)] = 20_000
    max_bytes: Annotated[int, msgspec.Meta(ge=1024)] = 64 * 1024 * 1024
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=5000)] = 50
    purge_url: str | None = None


class Slot(Struct):
    """Where one answer is kept: its key, and the tags by which it is dropped.

    Both are digests or texts that name tenant and module already; equal ones
    are the same place for everybody who shares the cache.
    """

    key: bytes
    tags: tuple[str, ...] = ()


class Found(Struct):
    """A kept answer, and for how many seconds it is still kept, by the cache's own clock."""

    value: bytes
    left_s: float


class Wish(Struct):
    """What a claimant asks for.

    `lease_s` is when another may claim the slot, and `life_s` the longest for
    which the answer will be kept, both by the cache's clock. An answer that has
    `least_left_s` or less left, or a rank below `least_rank`, counts as none.
    """

    lease_s: float
    life_s: float
    least_left_s: float = 0.0
    least_rank: int = 0


class Claim(Struct):
    """What a filler holds: the versions of the slot's tags as they were before it computed.

    `granted` is true for one claimant of a slot at a time. `found` is set where
    the answer was there after all; then there is nothing to fill.
    """

    versions: tuple[bytes, ...]
    token: bytes
    granted: bool
    found: Found | None = None


class Follower(Protocol):
    """Is told what others drop. Called on the event loop; is quick, and never raises."""

    def invalidated(self, tags: Sequence[str]) -> None:
        """Another process has dropped these tags."""
        ...

    def live(self) -> None:
        """From now on every invalidation is told."""
        ...

    def lost(self) -> None:
        """Invalidations may be missed from now on, until `live`."""
        ...


class Cache(Protocol):
    """Kept answers. Every method raises CacheUnavailableError (NOT_DONE) within its time limit.

    A fill that began before an invalidation of one of its tags is never found
    after it, however late it arrives. A fill of a lower rank never replaces one
    of a higher rank.
    """

    async def find(self, slots: Sequence[Slot]) -> list[Found | None]:
        """What is kept in each slot, in their order; None where nothing is."""
        ...

    async def claim(self, slot: Slot, wish: Wish) -> Claim:
        """Look once more, and take the slot's lease to fill it, if nobody holds it."""
        ...

    async def fill(
        self, slot: Slot, claim: Claim, value: bytes, *, rank: int, keep_s: float
    ) -> bool:
        """Keep an answer and end the claim; False where it came too late to be kept.

        Args:
            rank: how new the state is that it was computed from; 0 or more.
        """
        ...

    async def release(self, slot: Slot, claim: Claim) -> None:
        """End a claim without an answer, so that the next may claim."""
        ...

    async def invalidate(self, tags: Sequence[str], reasons: Sequence[str] = ()) -> bool:
        """Drop every answer with one of these tags, and every fill of one that has begun.

        Args:
            reasons: names of why; a later call does nothing whose reasons
                were all given within some minutes.
        Returns: False where it was such a later call.
        """
        ...

    async def follow(self, follower: Follower) -> None:
        """Tell a follower what others drop, from now until `close`."""
        ...

    async def close(self) -> None:
        """End what runs and let go of the connections."""
        ...


class FirstTier(Protocol):
    """Answers kept in this process, within bounds, reached without waiting."""

    def find_nowait(self, key: bytes) -> Found | None:
        """What is kept under a key; None where nothing is."""
        ...

    def begun_nowait(self) -> int:
        """A mark to be taken before an answer is computed or fetched."""
        ...

    def keep_nowait(
        self, slot: Slot, begun: int, value: bytes, *, rank: int, keep_s: float
    ) -> bool:
        """Keep an answer; False where one of its tags was dropped since `begun`."""
        ...

    def drop_nowait(self, tags: Sequence[str]) -> None:
        """Drop every answer with one of these tags."""
        ...

    def clear_nowait(self) -> None:
        """Drop everything, and every answer on its way in."""
        ...


class Purger(Protocol):
    """Tells what stands before the product, such as a CDN, to drop its copies."""

    async def purge(self, tags: Sequence[str]) -> None:
        """Have every copy with one of these tags dropped. Raises: PurgeFailedError (NOT_DONE)."""
        ...
