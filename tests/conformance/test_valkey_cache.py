"""The cache in Valkey passes the suite; what happens when its server does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tenfold.adapters.valkey.cache import ValkeyCache
from tenfold.ports.cache import Cache, CacheUnavailableError, Slot
from tenfold.ports.clock import SystemClock
from tenfold.testing import cache_suite
from tenfold.testing.cache_suite import TEA, WISH, Heard, found, keep

# The product's own 50 ms are for a machine that is not running a whole test suite meanwhile.
PATIENT_MS = 2_000


class ValkeyBench:
    shared = True

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[ValkeyCache] = []
        self.cache = self.another()

    def another(self, timeout_ms: int = PATIENT_MS, namespace: str = "test") -> ValkeyCache:
        made = ValkeyCache(self.url, SystemClock(), namespace=namespace, timeout_ms=timeout_ms)
        self.made.append(made)
        return made

    async def pass_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        for made in self.made:
            await made.close()


@pytest.fixture
async def bench(valkey_url: str) -> AsyncIterator[ValkeyBench]:
    made = ValkeyBench(valkey_url)
    yield made
    await made.close()


class TestFills(cache_suite.FillCases):
    pass


class TestInvalidations(cache_suite.InvalidationCases):
    pass


class TestClaims(cache_suite.ClaimCases):
    pass


class TestFollowers(cache_suite.FollowCases):
    pass


async def until(true: Callable[[], Any], bound_s: float = 20.0) -> None:
    async with asyncio.timeout(bound_s):
        while not true():
            await asyncio.sleep(0.01)


@pytest.mark.anyio
class TestOneServer:
    async def test_two_products_on_one_server_do_not_meet(self, bench: ValkeyBench) -> None:
        await keep(bench.cache, TEA, b"2.55")
        other = bench.another(namespace="other")
        assert await found(other, TEA) is None
        await other.invalidate(TEA.tags)
        assert await found(bench.cache, TEA) == b"2.55"

    async def test_a_tag_that_the_server_evicted_costs_a_miss(self, bench: ValkeyBench) -> None:
        claim = await bench.cache.claim(TEA, WISH)
        await bench.cache.fill(TEA, claim, b"2.55", rank=0, keep_s=60)
        client = bench.cache._client
        for key in await client.keys("*:t:*"):
            await client.delete(key)
        assert await found(bench.cache, TEA) is None
        assert not await bench.cache.fill(TEA, claim, b"old", rank=9, keep_s=60)

    async def test_nothing_that_names_anybody_is_in_a_key(self, bench: ValkeyBench) -> None:
        slot = Slot(key=b"0123456789abcdef", tags=("main/accounts/person:ada@example.com",))
        await keep(bench.cache, slot, b"x")
        await bench.cache.invalidate(slot.tags, ["ada@example.com"])
        await keep(bench.cache, slot, b"x")
        keys = await bench.cache._client.keys("*")
        assert keys
        assert not any(b"ada" in key for key in keys)

    async def test_every_key_expires(self, bench: ValkeyBench) -> None:
        await keep(bench.cache, TEA, b"x")
        await bench.cache.claim(Slot(key=b"other", tags=("t",)), WISH)
        await bench.cache.invalidate(["t"], ["event:1"])
        client = bench.cache._client
        lives = [await client.pttl(key) for key in await client.keys("*")]
        assert lives
        assert all(0 < life <= 400_000 for life in lives)


@pytest.mark.anyio
class TestAwayAndBack:
    async def test_nobody_waits_for_a_server_that_hangs(self, own_valkey: Any) -> None:
        server = own_valkey()
        bench = ValkeyBench(server.url)
        cache = bench.another(timeout_ms=50)
        try:
            await keep(bench.cache, TEA, b"2.55")
            await found(cache, TEA)
            server.pause()
            began = time.monotonic()
            for _ in range(200):
                with pytest.raises(CacheUnavailableError):
                    await cache.find([TEA])
            # Three that waited 50 ms each opened the circuit; the others were turned away.
            assert time.monotonic() - began < 2.0
            assert cache.circuit.opened == 1
            server.resume()
            await self._answers(cache)
            assert await found(cache, TEA) == b"2.55"
        finally:
            server.resume()
            await bench.close()

    async def test_an_answer_that_came_too_late_is_no_answer_to_the_next(
        self, own_valkey: Any
    ) -> None:
        server = own_valkey()
        bench = ValkeyBench(server.url)
        cache = bench.another(timeout_ms=50)
        slots = [Slot(key=b"%016d" % n) for n in range(20)]
        try:
            for n, slot in enumerate(slots):
                await keep(bench.cache, slot, b"%d" % n)
            await found(cache, TEA)
            server.pause()
            with pytest.raises(CacheUnavailableError):
                await cache.find([slots[0]])
            server.resume()
            await self._answers(cache)
            assert [await found(cache, slot) for slot in slots] == [b"%d" % n for n in range(20)]
        finally:
            server.resume()
            await bench.close()

    async def test_what_a_restarted_server_remembers_is_not_read(self, own_valkey: Any) -> None:
        server = own_valkey(durable=True)
        bench = ValkeyBench(server.url)
        try:
            await keep(bench.cache, TEA, b"old")
            claim = await bench.cache.claim(Slot(key=b"under way", tags=TEA.tags), WISH)
            await bench.cache._client.save()
            await bench.cache.invalidate(TEA.tags)  # after the snapshot: forgotten with the crash
            server.kill()
            server.start()
            await self._answers(bench.cache)
            assert await bench.cache._client.keys("*"), "the snapshot was not loaded"
            assert await found(bench.cache, TEA) is None
            late = Slot(key=b"under way", tags=TEA.tags)
            assert not await bench.cache.fill(late, claim, b"old", rank=9, keep_s=60)
        finally:
            await bench.close()

    async def test_a_follower_is_told_that_it_may_have_missed_something(
        self, own_valkey: Any
    ) -> None:
        server = own_valkey()
        bench = ValkeyBench(server.url)
        heard = Heard()
        try:
            await bench.cache.follow(heard)
            assert await heard.next() == ("live",)
            server.kill()
            assert await heard.next() == ("lost",)
            server.start()
            words = await heard.next()
            while words == ("lost",):
                words = await heard.next()
            assert words == ("live",)
        finally:
            await bench.close()

    async def test_a_connection_that_died_without_a_word_is_noticed(self, own_valkey: Any) -> None:
        server = own_valkey()
        bench = ValkeyBench(server.url)
        heard = Heard()
        try:
            await bench.cache.follow(heard)
            assert await heard.next() == ("live",)
            server.pause()
            began = time.monotonic()
            assert await heard.next() == ("lost",)
            assert time.monotonic() - began < 5.0
        finally:
            server.resume()
            await bench.close()

    async def _answers(self, cache: Cache) -> None:
        async with asyncio.timeout(20):
            while True:
                try:
                    await cache.find([TEA])
                    return
                except CacheUnavailableError:
                    await asyncio.sleep(0.02)
