"""Purges: what stands before the product is told which tags to drop, until it has taken it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenfold.adapters.purge import HttpPurger, surrogate_key
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.cache import CacheSettings, PurgeFailedError
from tests.caching.shop import ShopBench

pytestmark = pytest.mark.anyio


class Cdn:
    """A small server that takes PURGE, and notes it."""

    def __init__(self) -> None:
        self.purges: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
        self.answers = [200]

    async def start(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.url = f"http://cdn:secret@127.0.0.1:{self.port}/purge?all=0"

    async def stop(self) -> None:
        self.server.close()
        await self.server.wait_closed()

    async def next(self) -> tuple[str, dict[str, str]]:
        async with asyncio.timeout(20):
            return await self.purges.get()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.purges.put_nowait((head[0], headers))
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()


@pytest.fixture
async def cdn() -> AsyncIterator[Cdn]:
    made = Cdn()
    await made.start()
    yield made
    await made.stop()


async def test_a_purge_names_its_tags(cdn: Cdn) -> None:
    await HttpPurger(cdn.url).purge(["main/shop/product:tea", "main/shop/product:green tea,ö"])
    line, headers = await cdn.next()
    assert line == "PURGE /purge?all=0 HTTP/1.1"
    assert headers["Surrogate-Key"].split(" ") == [
        "main/shop/product:tea",
        "main/shop/product:green%20tea%2C%C3%B6",
    ]
    assert headers["Cache-Tag"].count(",") == 1
    assert headers["Authorization"] == "Bearer secret"


async def test_many_tags_go_in_several_requests(cdn: Cdn) -> None:
    await HttpPurger(cdn.url).purge([f"t{n}" for n in range(250)])
    sizes = [len((await cdn.next())[1]["Surrogate-Key"].split(" ")) for _ in range(3)]
    assert sizes == [100, 100, 50]


async def test_what_has_none_of_them_is_fine(cdn: Cdn) -> None:
    cdn.answers = [404]
    await HttpPurger(cdn.url).purge(["t"])


async def test_a_purge_that_is_refused_is_an_error(cdn: Cdn) -> None:
    cdn.answers = [405]
    with pytest.raises(PurgeFailedError, match="405"):
        await HttpPurger(cdn.url).purge(["t"])


async def test_a_purge_that_nobody_takes_is_an_error(cdn: Cdn) -> None:
    await cdn.stop()
    with pytest.raises(PurgeFailedError, match="told again later"):
        await HttpPurger(cdn.url).purge(["t"])


@pytest.mark.parametrize("url", ["cdn.example", "ftp://cdn.example", "http://"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UserMistakeError, match="purge address"):
        HttpPurger(url)


async def test_an_event_purges_and_is_tried_again_until_it_is_taken(
    tmp_path: Path, cdn: Cdn
) -> None:
    cdn.answers = [503, 503, 200]
    bench = ShopBench(tmp_path)
    await bench.start(settings=CacheSettings(purge_url=cdn.url))
    try:
        await bench.host.idle()  # the relay knows from where on it follows
        await bench.shop.set_price("tea", 1)  # answered without waiting for any purge
        wanted = {surrogate_key("main/shop/product:tea"), surrogate_key("main/tells/told:tea")}
        taken: set[str] = set()
        while taken != wanted:
            purge = asyncio.create_task(cdn.next())
            while not purge.done():
                await asyncio.sleep(0.01)
                bench.clock.jump(0.05)  # type: ignore[attr-defined]
            taken.add((await purge)[1]["Surrogate-Key"])
        assert cdn.answers == [200]
    finally:
        await bench.stop()


async def test_a_commands_tags_are_purged(tmp_path: Path, cdn: Cdn) -> None:
    bench = ShopBench(tmp_path)
    await bench.start(settings=CacheSettings(purge_url=cdn.url))
    try:
        await bench.shop.set_quietly("tea", 1)
        assert (await cdn.next())[1]["Surrogate-Key"] == "main/shop/quiet:tea"
    finally:
        await bench.stop()


def test_a_tag_is_told_to_a_cdn_as_it_stands_in_an_answer() -> None:
    from urllib.parse import quote

    from tenfold.edges.http import client_life

    assert surrogate_key("a b,c/ü") == quote("a b,c/ü", safe=client_life._SAFE)
