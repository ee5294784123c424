"""What every cache must do: the conformance cases of the port.

An adapter's test file subclasses the classes below and gives a fixture `bench`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import pytest

from tenfold.ports.cache import Cache, Claim, Found, Slot, Wish

__all__ = ["CacheBench", "ClaimCases", "FillCases", "FollowCases", "Heard", "InvalidationCases"]

TEA = Slot(key=b"tea-------------", tags=("main/shop/product:tea",))
BREW = Slot(key=b"brew------------", tags=("main/shop/product:tea", "main/shop/product:milk"))
MILK = Slot(key=b"milk------------", tags=("main/shop/product:milk",))
PLAIN = Slot(key=b"plain-----------")
WISH = Wish(lease_s=30.0, life_s=60.0)


class CacheBench(Protocol):
    """What an adapter's tests hand to the cases: a cache that is empty.

    `shared` is false for a cache that only its own process sees; cases that
    need two processes are then skipped.
    """

    cache: Cache
    shared: bool

    def another(self) -> Cache:
        """The same cache as another process sees it."""
        ...

    async def pass_s(self, seconds: float) -> None:
        """Let so much time pass by the cache's clock, and hardly more."""
        ...


class Heard:
    """A follower that remembers; a test waits for what it was told."""

    def __init__(self) -> None:
        self.words: asyncio.Queue[tuple[str, ...]] = asyncio.Queue()

    def invalidated(self, tags: Sequence[str]) -> None:
        self.words.put_nowait(("invalidated", *tags))

    def live(self) -> None:
        self.words.put_nowait(("live",))

    def lost(self) -> None:
        self.words.put_nowait(("lost",))

    async def next(self) -> tuple[str, ...]:
        async with asyncio.timeout(20):
            return await self.words.get()


async def found(cache: Cache, slot: Slot) -> bytes | None:
    """The value in a slot."""
    one: Found | None = (await cache.find([slot]))[0]
    return None if one is None else one.value


async def keep(
    cache: Cache, slot: Slot, value: bytes, *, rank: int = 0, keep_s: float = 60.0
) -> bool:
    """Claim a slot and fill it."""
    claim = await cache.claim(slot, WISH)
    return await cache.fill(slot, claim, value, rank=rank, keep_s=keep_s)


@pytest.mark.anyio
class FillCases:
    """What is kept is found, for its time, unless something newer is there."""

    async def test_what_was_never_filled_is_not_found(self, bench: CacheBench) -> None:
        assert await found(bench.cache, TEA) is None

    async def test_what_was_filled_is_found_with_its_time(self, bench: CacheBench) -> None:
        assert await keep(bench.cache, TEA, b"2.55")
        one = (await bench.cache.find([TEA]))[0]
        assert one is not None
        assert one.value == b"2.55"
        assert 50 < one.left_s <= 60

    async def test_many_are_found_in_the_order_asked_for(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"tea")
        await keep(bench.cache, PLAIN, b"plain")
        await keep(bench.cache, BREW, b"brew")
        values = [one and one.value for one in await bench.cache.find([BREW, MILK, TEA, PLAIN])]
        assert values == [b"brew", None, b"tea", b"plain"]

    async def test_any_bytes_are_kept_as_they_are(self, bench: CacheBench) -> None:
        value = bytes(range(256)) * 40
        await keep(bench.cache, TEA, value)
        assert await found(bench.cache, TEA) == value

    async def test_an_empty_value_is_a_value(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"")
        assert await found(bench.cache, TEA) == b""

    async def test_slots_do_not_share_anything_but_tags(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"tea")
        assert await found(bench.cache, BREW) is None

    async def test_what_has_expired_is_not_found(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"2.55", keep_s=0.05)
        await bench.pass_s(0.06)
        assert await found(bench.cache, TEA) is None

    async def test_an_older_state_never_replaces_a_newer_one(self, bench: CacheBench) -> None:
        older = await bench.cache.claim(TEA, WISH)
        newer = await bench.cache.claim(TEA, WISH)
        assert await bench.cache.fill(TEA, newer, b"new", rank=8, keep_s=60)
        assert not await bench.cache.fill(TEA, older, b"old", rank=5, keep_s=60)
        assert await found(bench.cache, TEA) == b"new"

    async def test_an_older_state_without_tags_never_replaces_a_newer_one(
        self, bench: CacheBench
    ) -> None:
        older = await bench.cache.claim(PLAIN, WISH)
        newer = await bench.cache.claim(PLAIN, WISH)
        assert await bench.cache.fill(PLAIN, newer, b"new", rank=1 << 50, keep_s=60)
        assert not await bench.cache.fill(PLAIN, older, b"old", rank=(1 << 50) - 1, keep_s=60)
        assert await found(bench.cache, PLAIN) == b"new"

    async def test_the_same_state_again_replaces(self, bench: CacheBench) -> None:
        first = await bench.cache.claim(TEA, WISH)
        second = await bench.cache.claim(TEA, WISH)
        await bench.cache.fill(TEA, first, b"one", rank=5, keep_s=60)
        assert await bench.cache.fill(TEA, second, b"two", rank=5, keep_s=60)
        assert await found(bench.cache, TEA) == b"two"

    async def test_after_an_invalidation_any_rank_is_kept(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"new", rank=8)
        await bench.cache.invalidate(TEA.tags)
        assert await keep(bench.cache, TEA, b"again", rank=0)
        assert await found(bench.cache, TEA) == b"again"


@pytest.mark.anyio
class InvalidationCases:
    """What is dropped stays dropped, whoever was about to fill it."""

    async def test_a_dropped_tag_takes_every_answer_that_has_it(self, bench: CacheBench) -> None:
        for slot in (TEA, BREW, MILK, PLAIN):
            await keep(bench.cache, slot, b"x")
        await bench.cache.invalidate(["main/shop/product:tea"])
        assert [await found(bench.cache, s) for s in (TEA, BREW, MILK, PLAIN)] == [
            None,
            None,
            b"x",
            b"x",
        ]

    async def test_a_stale_fill_after_the_invalidation_is_refused(self, bench: CacheBench) -> None:
        claim = await bench.cache.claim(TEA, WISH)  # then it reads the old price
        await bench.cache.invalidate(TEA.tags)
        assert not await bench.cache.fill(TEA, claim, b"old", rank=99, keep_s=60)
        assert await found(bench.cache, TEA) is None

    async def test_a_stale_fill_is_refused_though_a_newer_was_kept_and_dropped_again(
        self, bench: CacheBench
    ) -> None:
        claim = await bench.cache.claim(TEA, WISH)
        await bench.cache.invalidate(TEA.tags)
        await keep(bench.cache, TEA, b"new")
        await bench.cache.invalidate(TEA.tags)
        assert not await bench.cache.fill(TEA, claim, b"old", rank=99, keep_s=60)
        assert await found(bench.cache, TEA) is None

    async def test_what_was_dropped_is_not_found_while_another_is_computed(
        self, bench: CacheBench
    ) -> None:
        await keep(bench.cache, TEA, b"old")
        await bench.cache.invalidate(TEA.tags)
        claim = await bench.cache.claim(TEA, WISH)
        assert claim.granted
        assert await found(bench.cache, TEA) is None
        assert (await bench.cache.claim(TEA, WISH)).found is None

    async def test_one_of_several_tags_is_enough_to_refuse_a_fill(self, bench: CacheBench) -> None:
        claim = await bench.cache.claim(BREW, WISH)
        await bench.cache.invalidate(["main/shop/product:milk"])
        assert not await bench.cache.fill(BREW, claim, b"old", rank=0, keep_s=60)
        assert await found(bench.cache, BREW) is None

    async def test_a_fill_that_began_afterwards_is_kept(self, bench: CacheBench) -> None:
        await bench.cache.invalidate(TEA.tags)
        assert await keep(bench.cache, TEA, b"new")
        assert await found(bench.cache, TEA) == b"new"

    async def test_a_fill_of_other_tags_is_not_refused(self, bench: CacheBench) -> None:
        claim = await bench.cache.claim(MILK, WISH)
        await bench.cache.invalidate(TEA.tags)
        assert await bench.cache.fill(MILK, claim, b"milk", rank=0, keep_s=60)

    async def test_a_tag_of_another_tenant_is_another_tag(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"2.55")
        await bench.cache.invalidate(["other/shop/product:tea"])
        assert await found(bench.cache, TEA) == b"2.55"

    async def test_a_known_reason_drops_nothing_again(self, bench: CacheBench) -> None:
        assert await bench.cache.invalidate(TEA.tags, ["event:1"])
        await keep(bench.cache, TEA, b"new")
        assert not await bench.cache.invalidate(TEA.tags, ["event:1"])
        assert await found(bench.cache, TEA) == b"new"

    async def test_one_unknown_reason_among_known_ones_drops(self, bench: CacheBench) -> None:
        await bench.cache.invalidate(TEA.tags, ["event:1"])
        await keep(bench.cache, TEA, b"new")
        assert await bench.cache.invalidate(TEA.tags, ["event:1", "event:2"])
        assert await found(bench.cache, TEA) is None

    async def test_ten_thousand_invalidations_later_a_fill_is_still_refused(
        self, bench: CacheBench
    ) -> None:
        claim = await bench.cache.claim(TEA, WISH)
        await bench.cache.invalidate(TEA.tags)
        for at in range(0, 10_000, 500):
            await bench.cache.invalidate([f"main/shop/product:{at + n}" for n in range(500)])
        assert not await bench.cache.fill(TEA, claim, b"old", rank=0, keep_s=60)


@pytest.mark.anyio
class ClaimCases:
    """One claimant at a time computes; the others find what it filled."""

    async def test_of_two_at_once_one_is_granted(self, bench: CacheBench) -> None:
        claims: list[Claim] = await asyncio.gather(
            *(bench.cache.claim(TEA, WISH) for _ in range(10))
        )
        assert [claim.granted for claim in claims].count(True) == 1

    async def test_who_was_not_granted_finds_what_was_filled(self, bench: CacheBench) -> None:
        first = await bench.cache.claim(TEA, WISH)
        await bench.cache.fill(TEA, first, b"2.55", rank=0, keep_s=60)
        second = await bench.cache.claim(TEA, WISH)
        assert not second.granted
        assert second.found is not None
        assert second.found.value == b"2.55"

    async def test_a_released_claim_is_granted_to_the_next(self, bench: CacheBench) -> None:
        first = await bench.cache.claim(TEA, WISH)
        await bench.cache.release(TEA, first)
        assert (await bench.cache.claim(TEA, WISH)).granted

    async def test_who_was_not_granted_releases_nothing(self, bench: CacheBench) -> None:
        await bench.cache.claim(TEA, WISH)
        second = await bench.cache.claim(TEA, WISH)
        await bench.cache.release(TEA, second)
        assert not (await bench.cache.claim(TEA, WISH)).granted

    async def test_a_lease_ends_by_itself(self, bench: CacheBench) -> None:
        await bench.cache.claim(TEA, Wish(lease_s=0.05, life_s=60))
        await bench.pass_s(0.06)
        assert (await bench.cache.claim(TEA, WISH)).granted

    async def test_a_late_claimant_does_not_end_the_next_ones_lease(
        self, bench: CacheBench
    ) -> None:
        late = await bench.cache.claim(TEA, Wish(lease_s=0.05, life_s=60))
        await bench.pass_s(0.06)
        assert (await bench.cache.claim(TEA, WISH)).granted
        await bench.cache.release(TEA, late)
        assert not (await bench.cache.claim(TEA, WISH)).granted

    async def test_an_answer_with_too_little_left_is_claimed(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"2.55", keep_s=10)
        claim = await bench.cache.claim(TEA, Wish(lease_s=30, life_s=60, least_left_s=20))
        assert claim.granted
        assert claim.found is None

    async def test_an_answer_of_too_low_a_rank_is_claimed(self, bench: CacheBench) -> None:
        await keep(bench.cache, TEA, b"2.55", rank=5)
        assert (await bench.cache.claim(TEA, Wish(lease_s=30, life_s=60, least_rank=6))).granted
        kept = await bench.cache.claim(TEA, Wish(lease_s=30, life_s=60, least_rank=5))
        assert kept.found is not None

    async def test_slots_are_claimed_apart(self, bench: CacheBench) -> None:
        assert (await bench.cache.claim(TEA, WISH)).granted
        assert (await bench.cache.claim(BREW, WISH)).granted


@pytest.mark.anyio
class FollowCases:
    """Between processes: one sees what another keeps, and hears what it drops."""

    async def test_a_follower_is_told_that_it_is(self, bench: CacheBench) -> None:
        heard = Heard()
        await bench.cache.follow(heard)
        assert await heard.next() == ("live",)

    async def test_another_process_finds_what_was_kept(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        await keep(bench.cache, TEA, b"2.55")
        assert await found(bench.another(), TEA) == b"2.55"

    async def test_another_process_is_not_granted_what_is_claimed(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        await bench.cache.claim(TEA, WISH)
        assert not (await bench.another().claim(TEA, WISH)).granted

    async def test_a_fill_is_refused_after_anothers_invalidation(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        claim = await bench.cache.claim(TEA, WISH)
        await bench.another().invalidate(TEA.tags)
        assert not await bench.cache.fill(TEA, claim, b"old", rank=0, keep_s=60)

    async def test_what_another_drops_is_heard(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        heard = Heard()
        await bench.cache.follow(heard)
        await heard.next()
        await bench.another().invalidate(BREW.tags)
        assert await heard.next() == ("invalidated", *BREW.tags)

    async def test_a_tag_is_heard_as_it_is_whatever_is_in_it(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        heard = Heard()
        await bench.cache.follow(heard)
        await heard.next()
        tags = ("main/shop/name:two\nlines", 'main/shop/name:"Grüner", Tee')
        await bench.another().invalidate(tags)
        assert await heard.next() == ("invalidated", *tags)

    async def test_what_one_drops_itself_is_not_told_to_it_again(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        heard = Heard()
        await bench.cache.follow(heard)
        await heard.next()
        await bench.cache.invalidate(TEA.tags)
        await bench.another().invalidate(MILK.tags)
        assert await heard.next() == ("invalidated", *MILK.tags)

    async def test_a_known_reason_is_not_told_again(self, bench: CacheBench) -> None:
        self._needs_two(bench)
        heard = Heard()
        await bench.cache.follow(heard)
        await heard.next()
        other = bench.another()
        await other.invalidate(TEA.tags, ["event:1"])
        await other.invalidate(TEA.tags, ["event:1"])
        await other.invalidate(MILK.tags)
        assert await heard.next() == ("invalidated", *TEA.tags)
        assert await heard.next() == ("invalidated", *MILK.tags)

    def _needs_two(self, bench: CacheBench) -> None:
        if not bench.shared:
            pytest.skip("this cache is its own process's alone")
