"""Kept answers in this process: a cache of its own, or the first tier before a shared one."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence

from tenfold.adapters.memory.eviction import TinyLfu
from tenfold.ports.cache import Claim, Follower, Found, Slot, Wish
from tenfold.ports.clock import Clock

__all__ = ["MemoryCache"]

_OVERHEAD_BYTES = 400
"""What an entry costs beside its value: its key, its record and its places in the lists."""
_LARGEST_SHARE = 8
"""An answer larger than this share of all room is not kept."""
_ONCE_S = 300.0
_REMEMBERED = 10_000


class _Entry:
    __slots__ = ("value", "rank", "tags", "until_s")

    def __init__(self, value: bytes, tags: tuple[str, ...], rank: int, until_s: float) -> None:
        self.value = value
        self.tags = tags
        self.rank = rank
        self.until_s = until_s


class MemoryCache:
    """Implements `Cache` and `FirstTier`, for one process and on one event loop.

    Which invalidations came after a fill began is told by one number that grows
    with each of them. Tags that were dropped long ago are forgotten; a fill that
    began before one of those is refused too, since nobody can tell any more.
    """

    def __init__(self, clock: Clock, *, entries: int, max_bytes: int) -> None:
        """Make an empty one.

        Args:
            entries: answers, at the most.
            max_bytes: of values, with some hundred bytes for each entry.
        """
        self._now_s = clock.monotonic
        self._max_bytes = max_bytes
        self._most_dropped = 2 * entries
        self._policy = TinyLfu(entries, max_bytes)
        self._held: dict[bytes, _Entry] = {}
        self._tagged: dict[str, set[bytes]] = {}
        self._number = 0
        self._floor = 0
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._leases: dict[bytes, tuple[bytes, float]] = {}
        self._once: OrderedDict[str, float] = OrderedDict()
        self.evicted = 0
        """Answers that had to leave for others."""

    @property
    def entries(self) -> int:
        """Answers held now, those included whose time is up and that nobody asked for since."""
        return len(self._held)

    @property
    def held_bytes(self) -> int:
        """What they take."""
        return self._policy.bytes

    def find_nowait(self, key: bytes) -> Found | None:
        """What is kept under a key. See `FirstTier.find_nowait`."""
        entry = self._held.get(key)
        if entry is None:
            self._policy.count(key)
            return None
        left_s = entry.until_s - self._now_s()
        if left_s <= 0:
            self._policy.count(key)
            self._remove(key, entry)
            return None
        self._policy.touch(key)
        return Found(value=entry.value, left_s=left_s)

    def begun_nowait(self) -> int:
        """A mark for a fill that begins now. See `FirstTier.begun_nowait`."""
        return self._number

    def keep_nowait(
        self, slot: Slot, begun: int, value: bytes, *, rank: int, keep_s: float
    ) -> bool:
        """Keep an answer unless it is outdated. See `FirstTier.keep_nowait`."""
        if begun < self._floor:
            return False
        dropped = self._dropped
        if any(dropped.get(tag, 0) > begun for tag in slot.tags):
            return False
        size = len(value) + _OVERHEAD_BYTES
        if size * _LARGEST_SHARE > self._max_bytes:
            return False
        now_s = self._now_s()
        held = self._held.get(slot.key)
        if held is not None:
            if held.rank > rank and held.until_s > now_s:
                return False
            self._untag(slot.key, held)
        self._held[slot.key] = _Entry(value, slot.tags, rank, now_s + keep_s)
        for tag in slot.tags:
            self._tagged.setdefault(tag, set()).add(slot.key)
        for gone in self._policy.add(slot.key, size):
            self.evicted += 1
            self._untag(gone, self._held.pop(gone))
        return slot.key in self._held

    def drop_nowait(self, tags: Sequence[str]) -> None:
        """Drop every answer with one of these tags. See `FirstTier.drop_nowait`."""
        self._number += 1
        for tag in tags:
            self._dropped[tag] = self._number
            self._dropped.move_to_end(tag)
            for key in list(self._tagged.get(tag, ())):
                self._remove(key, self._held[key])
        while len(self._dropped) > self._most_dropped:
            self._floor = self._dropped.popitem(last=False)[1]

    def clear_nowait(self) -> None:
        """Drop everything. See `FirstTier.clear_nowait`."""
        self._number += 1
        self._floor = self._number
        self._dropped.clear()
        for key, entry in list(self._held.items()):
            self._remove(key, entry)

    async def find(self, slots: Sequence[Slot]) -> list[Found | None]:
        """What is kept in each slot. See `Cache.find`."""
        return [self.find_nowait(slot.key) for slot in slots]

    async def claim(self, slot: Slot, wish: Wish) -> Claim:
        """Look once more, and take the slot's lease. See `Cache.claim`."""
        versions = (b"%d" % self._number,)
        held = self._held.get(slot.key)
        if held is not None and held.rank >= wish.least_rank:
            found = self.find_nowait(slot.key)
            if found is not None and found.left_s > wish.least_left_s:
                return Claim(versions=versions, token=b"", granted=False, found=found)
        now_s = self._now_s()
        lease = self._leases.get(slot.key)
        if lease is not None and lease[1] > now_s:
            return Claim(versions=versions, token=b"", granted=False)
        token = secrets.token_bytes(8)
        self._leases[slot.key] = (token, now_s + wish.lease_s)
        if len(self._leases) > _REMEMBERED:
            self._leases = {k: held for k, held in self._leases.items() if held[1] > now_s}
        return Claim(versions=versions, token=token, granted=True)

    async def fill(
        self, slot: Slot, claim: Claim, value: bytes, *, rank: int, keep_s: float
    ) -> bool:
        """Keep an answer and end the claim. See `Cache.fill`."""
        await self.release(slot, claim)
        return self.keep_nowait(slot, int(claim.versions[0]), value, rank=rank, keep_s=keep_s)

    async def release(self, slot: Slot, claim: Claim) -> None:
        """End a claim without an answer. See `Cache.release`."""
        lease = self._leases.get(slot.key)
        if lease is not None and lease[0] == claim.token:
            del self._leases[slot.key]

    async def invalidate(self, tags: Sequence[str], reasons: Sequence[str] = ()) -> bool:
        """Drop every answer with one of these tags. See `Cache.invalidate`."""
        now_s = self._now_s()
        if reasons and all(self._once.get(reason, 0.0) > now_s for reason in reasons):
            return False
        for reason in reasons:
            self._once[reason] = now_s + _ONCE_S
            self._once.move_to_end(reason)
        while len(self._once) > _REMEMBERED:
            self._once.popitem(last=False)
        self.drop_nowait(tags)
        return True

    async def follow(self, follower: Follower) -> None:
        """Nobody else writes here, so that nothing is ever missed. See `Cache.follow`."""
        follower.live()

    async def close(self) -> None:
        """Let go of everything. See `Cache.close`."""
        self.clear_nowait()

    def _remove(self, key: bytes, entry: _Entry) -> None:
        del self._held[key]
        self._policy.remove(key)
        self._untag(key, entry)

    def _untag(self, key: bytes, entry: _Entry) -> None:
        for tag in entry.tags:
            keys = self._tagged.get(tag)
            if keys is not None:
                keys.discard(key)
                if not keys:
                    del self._tagged[tag]
