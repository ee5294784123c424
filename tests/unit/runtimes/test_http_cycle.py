"""An answer goes out in one piece where nothing hinders it, and by ASGI where something does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tenfold.edges.http.asgi import ASGIApp
from tenfold.edges.http.direct import DIRECT
from tenfold.edges.http.exchange import Exchange
from tenfold.ports.clock import RandomIds
from tenfold.runtimes.http_protocol import BoundedHttpProtocol, bounded_protocol
from tests.unit.runtimes.test_front_timers import Wire

pytestmark = pytest.mark.anyio
GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n"
LENGTH = (b"content-length", b"2")


class Pieces(Wire):
    """A connection whose single writes can be told apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []

    def write(self, data: Any) -> None:
        super().write(data)
        self.pieces.append(bytes(data))

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    async def await_bytes(self, text: bytes) -> None:
        async with asyncio.timeout(5):
            while text not in self.written:
                await asyncio.sleep(0)


@asynccontextmanager
async def connected(app: ASGIApp) -> AsyncIterator[tuple[BoundedHttpProtocol, Pieces]]:
    kind: Any = bounded_protocol(max_head_bytes=8_192, head_timeout_s=5)
    config = uvicorn.Config(app, http=kind, lifespan="off", date_header=False)
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    wire = Pieces()
    protocol.connection_made(wire)
    yield protocol, wire
    assert not protocol.tasks, "a task of an answered request is still known"
    protocol.connection_lost(None)


def answering(act: Callable[[Any], None]) -> ASGIApp:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        act(scope[DIRECT])

    return app


async def test_an_answer_is_one_write_and_the_next_request_is_read() -> None:
    def act(direct: Any) -> None:
        assert direct.answer(200, [(b"x-one", b"1"), LENGTH], b"ok")

    async with connected(answering(act)) as (protocol, wire):
        protocol.data_received(GET + GET)
        async with asyncio.timeout(5):
            while len(wire.pieces) < 2:
                await asyncio.sleep(0)
        assert wire.pieces == [b"HTTP/1.1 200 OK\r\nx-one: 1\r\ncontent-length: 2\r\n\r\nok"] * 2
        assert not wire.closed


async def test_a_connection_that_is_not_kept_is_told_so_and_closed() -> None:
    def act(direct: Any) -> None:
        assert direct.answer(204, [], b"")

    async with connected(answering(act)) as (protocol, wire):
        protocol.data_received(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        await wire.await_bytes(b"204")
        assert wire.written == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"
        assert wire.closed


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
async def test_a_line_break_in_a_header_never_leaves(value: bytes) -> None:
    def act(direct: Any) -> None:
        with pytest.raises(ValueError, match="line break"):
            direct.answer(200, [(b"x-name", value), LENGTH], b"ok")
        assert direct.answer(200, [LENGTH], b"ok")

    async with connected(answering(act)) as (protocol, wire):
        protocol.data_received(GET)
        await wire.await_bytes(b"ok")
        assert b"x-name" not in wire.written


async def test_who_reads_slowly_is_written_to_as_fast_as_they_read() -> None:
    said: list[bool] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        said.append(scope[DIRECT].answer(200, [LENGTH], b"ok"))
        await send({"type": "http.response.start", "status": 200, "headers": [LENGTH]})
        await send({"type": "http.response.body", "body": b"ok"})

    async with connected(app) as (protocol, wire):
        protocol.pause_writing()
        protocol.data_received(GET)
        for _ in range(5):
            await asyncio.sleep(0)
        assert (said, wire.written) == ([False], b"")
        protocol.resume_writing()
        await wire.await_bytes(b"ok")
        assert len(wire.pieces) == 1


async def test_a_body_is_whole_once_it_has_come_and_is_given_once() -> None:
    said: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        direct = scope[DIRECT]
        said.append(direct.whole_body())
        if said[-1] is None:
            said.append(await receive())
            said.append(direct.whole_body())
        assert direct.answer(200, [LENGTH], b"ok")

    async with connected(app) as (protocol, wire):
        protocol.data_received(POST + b"hello")
        await wire.await_bytes(b"ok")
        assert said == [b"hello"]
        said.clear()
        protocol.data_received(POST + b"he")
        await asyncio.sleep(0)
        assert said[0] is None
        protocol.data_received(b"llo")
        async with asyncio.timeout(5):
            while len(wire.pieces) < 2:
                await asyncio.sleep(0)
        assert said[2] is None, "what was received in part is not given as a whole"


async def test_whom_an_application_calls_answers_through_it() -> None:
    scope: Any = {
        "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "headers": [],
        "query_string": b"", DIRECT: object(),
    }  # fmt: skip
    exchange = Exchange(scope, None, RandomIds(1))  # type: ignore[arg-type]
    assert exchange.direct is not None
    assert DIRECT not in scope, "a mount would answer past whoever wraps its answers"


async def test_an_answer_that_says_it_is_the_last_closes_the_connection() -> None:
    def act(direct: Any) -> None:
        assert direct.answer(413, [(b"connection", b"close"), LENGTH], b"no")

    async with connected(answering(act)) as (protocol, wire):
        protocol.data_received(POST)
        await wire.await_bytes(b"no")
        assert wire.written.count(b"connection: close") == 1
        assert wire.closed
