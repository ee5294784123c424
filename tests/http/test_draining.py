"""What a draining server does with each kind of connection, on the wire."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tenfold.runtimes.draining import Drain
from tenfold.runtimes.http_protocol import bounded_protocol
from tests.http.serving import read_answer, serving

GET = b"GET /%b HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Gate:
    """An application whose answers wait, and a drain that begins when the test says."""

    def __init__(self) -> None:
        self.drain = Drain()
        self.begun = threading.Semaphore(0)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.go: asyncio.Event | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            self.loop = asyncio.get_running_loop()
            self.go = asyncio.Event()
            while True:
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
                if kind.endswith("shutdown"):
                    return
        assert self.go is not None
        if scope["path"] == "/head-first":
            await self._answer(send, b"early", more=True)
        self.begun.release()
        if scope["path"] != "/":
            await self.go.wait()
        if scope["path"] == "/head-first":
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._answer(send, scope["path"].encode(), more=False)

    async def _answer(self, send: Any, body: bytes, *, more: bool) -> None:
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": more})

    def await_begun(self, number: int = 1) -> None:
        for _ in range(number):
            assert self.begun.acquire(timeout=20)

    def begin(self, *, keep_idle: bool = True) -> None:
        self._on_loop(lambda: self.drain.begin(keep_idle=keep_idle))

    def open(self) -> None:
        assert self.go is not None
        self._on_loop(self.go.set)

    def _on_loop(self, work: Any) -> None:
        done = threading.Event()
        assert self.loop is not None
        self.loop.call_soon_threadsafe(lambda: (work(), done.set()))
        assert done.wait(20)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def port(gate: Gate) -> Iterator[int]:
    protocol = bounded_protocol(max_head_bytes=8_192, head_timeout_s=5, drain=gate.drain)
    with serving(gate, protocol) as port:
        yield port


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), 20) as wire:
        yield wire


def says_close(answer: bytes) -> bool:
    return b"connection: close" in answer.partition(b"\r\n\r\n")[0].lower()


def is_open(wire: socket.socket) -> bool:
    wire.settimeout(0.3)
    try:
        return wire.recv(1) != b""
    except TimeoutError:
        return True
    finally:
        wire.settimeout(20)


def test_a_connection_that_rests_has_one_more_request(gate: Gate, port: int) -> None:
    with connected(port) as wire:
        wire.sendall(GET % b"")
        assert not says_close(read_answer(wire))
        gate.begin()
        assert is_open(wire)
        wire.sendall(GET % b"")
        answer = read_answer(wire)
        assert answer.startswith(b"HTTP/1.1 200")
        assert says_close(answer)
        assert wire.recv(1) == b""


def test_a_connection_without_a_request_yet_has_one(gate: Gate, port: int) -> None:
    with connected(port) as wire, connected(port) as other:
        other.sendall(GET % b"")
        read_answer(other)  # by now the first was accepted too
        gate.begin()
        wire.sendall(GET % b"")
        assert says_close(read_answer(wire))


def test_a_request_that_is_half_here_is_answered(gate: Gate, port: int) -> None:
    with connected(port) as wire, connected(port) as other:
        wire.sendall(b"GET / HTT")
        other.sendall(GET % b"")
        read_answer(other)
        gate.begin(keep_idle=False)
        wire.sendall(b"P/1.1\r\nHost: localhost\r\n\r\n")
        answer = read_answer(wire)
        assert answer.startswith(b"HTTP/1.1 200")
        assert says_close(answer)


def test_an_answer_in_the_making_says_that_it_is_the_last(gate: Gate, port: int) -> None:
    with connected(port) as wire:
        wire.sendall(GET % b"wait")
        gate.await_begun()
        gate.begin()
        gate.open()
        assert says_close(read_answer(wire))
        assert wire.recv(1) == b""


def test_a_keep_alive_that_was_promised_is_kept(gate: Gate, port: int) -> None:
    with connected(port) as wire:
        wire.sendall(GET % b"head-first")
        gate.await_begun()
        gate.begin()
        gate.open()
        assert not says_close(read_answer(wire))
        wire.sendall(GET % b"")
        assert says_close(read_answer(wire))


def test_of_requests_in_a_row_all_are_answered(gate: Gate, port: int) -> None:
    with connected(port) as wire:
        wire.sendall(GET % b"wait")
        gate.await_begun()
        gate.begin()
        wire.sendall(GET % b"second" + GET % b"third")
        gate.open()
        with wire.makefile("rb") as stream:
            answers = stream.read()
        assert answers.count(b"HTTP/1.1 200") == 3
        assert answers.lower().count(b"connection: close") == 1


def test_without_a_successor_connections_that_rest_end_at_once(gate: Gate, port: int) -> None:
    with connected(port) as wire, connected(port) as fresh:
        wire.sendall(GET % b"")
        read_answer(wire)
        gate.begin(keep_idle=False)
        assert wire.recv(1) == b""
        assert fresh.recv(1) == b""
