"""The cache in process passes the suite, and keeps its bounds."""

from __future__ import annotations

import pytest

from tenfold.adapters.memory.cache import MemoryCache
from tenfold.ports.cache import Cache, Slot
from tenfold.ports.clock import SystemClock
from tenfold.testing import cache_suite
from tenfold.testing.clock import HeldClock


class MemoryBench:
    shared = False

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.cache = MemoryCache(self.clock, entries=1000, max_bytes=10_000_000)

    def another(self) -> Cache:
        raise AssertionError("it has none")

    async def pass_s(self, seconds: float) -> None:
        self.clock.jump(seconds)


@pytest.fixture
def bench() -> MemoryBench:
    return MemoryBench()


class TestFills(cache_suite.FillCases):
    pass


class TestInvalidations(cache_suite.InvalidationCases):
    pass


class TestClaims(cache_suite.ClaimCases):
    pass


class TestFollowers(cache_suite.FollowCases):
    pass


def kept(cache: MemoryCache, number: int, size: int = 100, tags: tuple[str, ...] = ()) -> bool:
    slot = Slot(key=b"%016d" % number, tags=tags)
    return cache.keep_nowait(slot, cache.begun_nowait(), b"x" * size, rank=0, keep_s=60)


def test_no_more_entries_are_held_than_allowed() -> None:
    cache = MemoryCache(SystemClock(), entries=50, max_bytes=10_000_000)
    for number in range(500):
        kept(cache, number, tags=(f"t:{number}",))
    assert cache.entries == 50
    assert cache.evicted == 450
    assert len(cache._tagged) == 50


def test_no_more_bytes_are_held_than_allowed() -> None:
    cache = MemoryCache(SystemClock(), entries=10_000, max_bytes=100_000)
    for number in range(500):
        kept(cache, number, size=2_000)
    assert 50_000 < cache.held_bytes <= 100_000


def test_one_answer_that_is_too_large_displaces_nothing() -> None:
    cache = MemoryCache(SystemClock(), entries=100, max_bytes=100_000)
    kept(cache, 1)
    assert not kept(cache, 2, size=50_000)
    assert cache.find_nowait(b"%016d" % 1) is not None


def test_what_is_asked_for_often_survives_a_scan() -> None:
    cache = MemoryCache(SystemClock(), entries=100, max_bytes=10_000_000)
    for number in range(50):
        kept(cache, number)
        for _ in range(3):
            cache.find_nowait(b"%016d" % number)
    for number in range(1_000, 3_000):
        kept(cache, number)
    there = sum(cache.find_nowait(b"%016d" % number) is not None for number in range(50))
    assert there >= 45


def test_dropped_tags_that_were_forgotten_refuse_all_that_began_before() -> None:
    cache = MemoryCache(SystemClock(), entries=10, max_bytes=10_000_000)
    begun = cache.begun_nowait()
    cache.drop_nowait(["t:1"])
    for number in range(100):
        cache.drop_nowait([f"other:{number}"])
    slot = Slot(key=b"%016d" % 1, tags=("t:1",))
    assert not cache.keep_nowait(slot, begun, b"old", rank=0, keep_s=60)


def test_clearing_refuses_what_was_on_its_way() -> None:
    cache = MemoryCache(SystemClock(), entries=10, max_bytes=10_000_000)
    begun = cache.begun_nowait()
    cache.clear_nowait()
    slot = Slot(key=b"%016d" % 1)
    assert not cache.keep_nowait(slot, begun, b"old", rank=0, keep_s=60)
