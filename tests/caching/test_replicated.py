"""Kept answers where tokens tell of a database's place, which every write moves on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.adapters.valkey.cache import ValkeyCache
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.path.entry import Reply
from tenfold.path.positions import read_token
from tenfold.ports.clock import SystemClock
from tenfold.ports.replicas import Freshness
from tenfold.runtimes.roles import Role
from tests.caching.shop import ShopBench

pytestmark = pytest.mark.anyio


class Log:
    """A database's log, as far as tokens tell of it: a place that tests move on."""

    server = "x"
    timeline = 1

    def __init__(self) -> None:
        self.place = 10
        self.away = False

    async def written(self) -> int:
        if self.away:
            raise StoreUnavailableError("asked to be away")
        return self.place

    async def seen(self, _: Freshness) -> int:
        return self.place


class Bench:
    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.log = Log()
        self.members: list[ShopBench] = []

    async def add(self) -> ShopBench:
        member = ShopBench(self.folder, SystemClock())
        far = ValkeyCache(self.url, SystemClock(), namespace="shop", timeout_ms=2_000)
        role = Role.LOOK if self.members else Role.ALL
        await member.start(far, role=role, replicas=self.log)
        self.members.append(member)
        return member

    async def timed(self, member: ShopBench, place: int | None = None) -> Reply:
        return await member.ask("shop.timed", sku="tea", position=self.at(place))

    async def shared(self, member: ShopBench, place: int | None = None) -> str:
        reply = await member.ask("shop.shared", sku="tea", position=self.at(place))
        return str(reply.value)

    def at(self, place: int | None) -> str | None:
        return None if place is None else f"DBx.{self.log.timeline}.{place}"


@pytest.fixture
async def bench(tmp_path: Path, valkey_url: str) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, valkey_url)
    yield made
    for member in reversed(made.members):
        await member.stop()


async def test_an_answer_tells_its_reader_what_it_has_seen(bench: Bench) -> None:
    one = await bench.add()
    bench.log.place = 42
    for _ in range(2):
        reply = await bench.timed(one)
        assert read_token(reply.position or "")["DBx"] == ("1", 42)
        bench.log.place += 1


async def test_an_answer_without_tags_is_passed_by_for_who_has_seen_a_later_place(
    bench: Bench,
) -> None:
    one = await bench.add()
    await one.shop.set_price("tea", 1)
    await bench.timed(one)
    await one.shop.set_price("tea", 2)
    assert (await bench.timed(one, 10)).value == 1
    assert (await bench.timed(one, 11)).value == 2
    assert (await bench.timed(one)).value == 1  # within its time, for who has seen nothing
    assert one.counts("shop.timed")["passed"] == 1


async def test_an_answer_with_tags_is_confirmed_to_who_has_seen_a_later_place(
    bench: Bench,
) -> None:
    one = await bench.add()
    await one.shop.set_quietly("tea", 1)
    for place in (10, 99, 100):
        assert await bench.shared(one, place) == "1 for anonymous"
    assert one.doings.ran["shared"] == 1
    assert one.counts("shop.shared")["confirmed"] == 2


async def test_who_wrote_there_is_not_given_what_this_process_holds_still(bench: Bench) -> None:
    """The news of a drop is on its way; it has not been heard here."""
    one, two = await bench.add(), await bench.add()
    await one.shop.set_quietly("tea", 1)
    assert await bench.shared(two) == "1 for anonymous"
    caching: Any = two.caches.caching
    listener = caching.far._listeners[0]
    listener._follower = Deaf()
    await one.shop.set_quietly("tea", 2)
    assert await bench.shared(two) == "1 for anonymous"
    assert await bench.shared(two, 99) == "2 for anonymous"


class Deaf:
    """Hears nothing."""

    def invalidated(self, tags: Any) -> None: ...
    def live(self) -> None: ...
    def lost(self) -> None: ...


async def test_another_history_of_the_database_keeps_apart(bench: Bench) -> None:
    one = await bench.add()
    await bench.timed(one)
    bench.log.timeline = 2  # a replica took over, and may have lost what was kept from
    await bench.timed(one)
    assert one.doings.ran["timed"] == 2


async def test_a_database_that_cannot_say_its_place_is_no_reason_to_fail(bench: Bench) -> None:
    one = await bench.add()
    await one.shop.set_price("tea", 7)
    bench.log.away = True
    assert (await bench.timed(one)).value == 7
    assert (await bench.timed(one, 5)).value == 7
