"""Kept answers of several processes on one database, with a real Valkey between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tenfold.adapters.valkey.cache import ValkeyCache
from tenfold.contracts.errors import HandlerFaultError
from tenfold.ports.cache import Cache, CacheUnavailableError
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.roles import Role
from tests.caching.shop import ADA, BEN, ShopBench

pytestmark = pytest.mark.anyio
PATIENT_MS = 2_000


class Fleet:
    """Processes, as far as the cache can tell: each has tiers, fills and a connection of its own.

    The first one also works the queues.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.members: list[ShopBench] = []

    async def add(self, around: Callable[[Cache], Cache] = lambda far: far) -> ShopBench:
        member = ShopBench(self.folder, SystemClock())
        role = Role.LOOK if self.members else Role.ALL
        far = ValkeyCache(self.url, SystemClock(), namespace="shop", timeout_ms=PATIENT_MS)
        await member.start(around(far), role=role)
        await until(lambda: member.caches.caching.first_tier_live)
        self.members.append(member)
        return member

    async def stop(self) -> None:
        for member in reversed(self.members):
            await member.stop()


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def until_equal(ask: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    async with asyncio.timeout(20):
        while await ask() != wanted:
            await asyncio.sleep(0.005)


@pytest.fixture
async def fleet(tmp_path: Path, valkey_url: str) -> AsyncIterator[Fleet]:
    made = Fleet(tmp_path, valkey_url)
    yield made
    await made.stop()


async def test_what_one_computed_the_others_have(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 255)
    assert (await one.shop.price("tea")).price == 255
    assert (await two.shop.price("tea")).price == 255
    assert "price" not in two.doings.ran
    assert two.counts("shop.price") == {"shared": 1}
    await two.shop.price("tea")
    assert two.counts("shop.price") == {"shared": 1, "first": 1}


async def test_at_once_in_all_processes_one_computes(fleet: Fleet) -> None:
    members = [await fleet.add() for _ in range(3)]
    await members[0].shop.set_price("tea", 255)
    for member in members:
        member.doings.slow_s = 0.1
    answers = await asyncio.gather(
        *(member.shop.price("tea") for member in members for _ in range(200))
    )
    assert {answer.price for answer in answers} == {255}
    assert sum(member.doings.ran.get("price", 0) for member in members) == 1


async def test_a_computation_that_failed_is_taken_over(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 255)
    one.doings.hold = asyncio.Event()
    first = asyncio.create_task(one.ask("shop.price", sku="tea"))
    await one.doings.holding.wait()
    second = asyncio.create_task(two.ask("shop.price", sku="tea"))
    one.doings.fail = ZeroDivisionError("asked to fail")
    one.doings.hold.set()
    assert (await second).value.price == 255
    with pytest.raises(Exception, match="asked to fail"):
        await first


async def test_a_computation_that_failed_gives_its_lease_back(fleet: Fleet) -> None:
    one = await fleet.add()
    far: Any = one.caches.caching.far
    one.doings.fail = ZeroDivisionError("asked to fail")
    with pytest.raises(HandlerFaultError):
        await one.shop.price("tea")
    assert await far._client.keys("*:t:*")
    assert await far._client.keys("*:l:*") == []


async def test_a_write_drops_what_the_others_hold(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 1)
    for price in range(100, 120):
        await two.shop.price("tea")
        await two.shop.price("tea")
        await one.shop.set_price("tea", price)
        assert (await one.shop.price("tea")).price == price

        async def told() -> int:
            return (await two.shop.price("tea")).price

        await until_equal(told, price)


async def test_who_wrote_there_reads_it_here_by_its_position(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 0)
    for price in range(1, 50):
        await two.ask("shop.price", sku="tea")
        written = await one.ask("shop.set_price", sku="tea", price=price)
        read = await two.ask("shop.price", sku="tea", position=written.position)
        assert read.value.price == price


async def test_tenants_and_principals_are_apart_in_the_shared_tier(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 1)
    await one.ask("shop.set_price", tenant="other", sku="tea", price=2)
    await one.ask("shop.price", who=ADA, sku="tea")
    await two.ask("shop.price", who=BEN, sku="tea")
    assert two.doings.ran["price"] == 1
    other = await two.ask("shop.price", who=ADA, tenant="other", sku="tea")
    assert other.value.price == 2


class Between:
    """The shared tier, with something done just before its answers are given back."""

    def __init__(self, far: Cache) -> None:
        self.far = far
        self.before_invalidate: Callable[[], Awaitable[None]] | None = None
        self.away = False

    def __getattr__(self, name: str) -> Any:
        if self.away and name in ("find", "claim", "fill", "release"):
            raise CacheUnavailableError("asked to be away")
        return getattr(self.far, name)

    async def invalidate(self, tags: Any, reasons: Any = ()) -> bool:
        if self.away:
            raise CacheUnavailableError("asked to be away")
        if self.before_invalidate is not None:
            act, self.before_invalidate = self.before_invalidate, None
            await act()
        return await self.far.invalidate(tags, reasons)


async def test_what_was_fetched_while_it_was_being_dropped_is_dropped_too(fleet: Fleet) -> None:
    between: list[Between] = []

    def around(far: Cache) -> Any:
        between.append(Between(far))
        return between[0]

    one = await fleet.add(around)
    await one.shop.set_price("tea", 1)
    await one.shop.price("tea")

    async def fetch() -> None:
        # The first tier has forgotten it, the shared one not yet.
        assert (await one.shop.price("tea")).price == 1

    between[0].before_invalidate = fetch
    await one.shop.set_price("tea", 2)
    assert (await one.shop.price("tea")).price == 2


async def test_a_drop_that_nobody_took_is_done_by_the_queue(fleet: Fleet) -> None:
    """The process dies after its commit, as far as the others can tell: nothing was dropped."""
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 1)
    await one.host.idle()
    assert (await two.shop.price("tea")).price == 1
    operation = two.host._running._operations["shop.set_price"]
    operation.dropping = None
    await two.shop.set_price("tea", 2)

    async def told() -> int:
        return (await two.shop.price("tea")).price

    relay = one.host.relay("shop")
    assert relay is not None
    relay.wake()  # another process's commit: it would poll for it
    await until_equal(told, 2)


async def test_what_an_event_drops_of_several_modules_is_all_dropped_by_the_queue(
    fleet: Fleet,
) -> None:
    one, two = await fleet.add(), await fleet.add()
    await one.shop.set_price("tea", 1)
    await one.host.idle()
    assert (await two.shop.price("tea")).price == 1
    before = await two.tells.told("tea")
    assert await two.tells.told("tea") == before
    two.host._running._operations["shop.set_price"].dropping = None
    await two.shop.set_price("tea", 2)
    relay = one.host.relay("shop")
    assert relay is not None
    relay.wake()  # another process's commit: it would poll for it
    await one.host.idle()

    async def shown() -> tuple[int, bool]:
        return (await two.shop.price("tea")).price, await two.tells.told("tea") > before

    await until_equal(shown, (2, True))


async def test_the_queue_does_not_leave_its_drop_to_one_that_fails_afterwards(
    fleet: Fleet,
) -> None:
    between: list[Between] = []

    def around(far: Cache) -> Any:
        between.append(Between(far))
        return between[0]

    one = await fleet.add(around)
    two = await fleet.add()
    await one.shop.set_quietly("tea", 1)
    await one.host.idle()
    assert await two.shop.shared("tea") == "1 for anonymous"

    async def fail_late() -> None:
        await one.host.idle()  # the queue, in this same process, is done with its entry
        raise CacheUnavailableError("asked to fail")

    between[0].before_invalidate = fail_late
    await one.shop.set_quietly("tea", 2)
    await one.host.idle()

    async def told() -> str:
        return await two.shop.shared("tea")

    await until_equal(told, "2 for anonymous")


async def test_a_commands_own_tags_are_dropped_by_the_queue(fleet: Fleet) -> None:
    one, two = await fleet.add(), await fleet.add()
    await two.shop.set_quietly("tea", 1)
    await one.host.idle()
    assert await one.shop.shared("tea") == "1 for anonymous"
    dropping: Any = two.host._running._operations["shop.set_quietly"].dropping

    class Dies:
        prepare = staticmethod(dropping.prepare)

        async def committed(self, *_: Any) -> None:
            return None

    two.host._running._operations["shop.set_quietly"].dropping = Dies()
    await two.shop.set_quietly("tea", 2)

    async def told() -> str:
        return await one.shop.shared("tea")

    one.host.worker("shop").wake()
    await until_equal(told, "2 for anonymous")


async def test_without_the_shared_tier_the_product_runs_on(tmp_path: Path, own_valkey: Any) -> None:
    server = own_valkey()
    fleet = Fleet(tmp_path, server.url)
    one, two = await fleet.add(), await fleet.add()
    try:
        await one.shop.set_price("tea", 1)
        await one.shop.price("tea")
        await two.shop.price("tea")
        server.kill()
        await until(lambda: not two.caches.caching.first_tier_live)
        await one.shop.set_price("tea", 2)
        assert (await one.shop.price("tea")).price == 2
        assert (await two.shop.price("tea")).price == 2
        assert (await two.shop.price("tea")).price == 2
        assert two.counts("shop.price")["without"] >= 1
        server.start()
        await until(lambda: two.caches.caching.first_tier_live)
        await one.shop.set_price("tea", 3)

        async def told() -> int:
            return (await two.shop.price("tea")).price

        await until_equal(told, 3)

        async def kept() -> bool:
            await two.shop.price("tea")
            return "first" in two.counts("shop.price")

        await until_equal(kept, True)
    finally:
        await fleet.stop()
