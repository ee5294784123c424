"""A connection that is refused rests from its last refusal on, and has one timer for it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
import uvicorn
from uvicorn.server import ServerState

from tenfold.edges.http.app import http_app
from tenfold.edges.http.front import Front
from tenfold.path.door import Door
from tenfold.path.shedding import Shedder, SheddingSettings
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.front_protocol import fronted
from tenfold.runtimes.http_protocol import bounded_protocol
from tests.http.shop import ShopEntry, make_product

GET = b"GET /v1/products/newest HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


@pytest.mark.anyio
async def test_a_timer_of_a_refusal_does_not_outlive_the_next_request() -> None:
    shedder = Shedder(SheddingSettings(first=1, least=1, most=1), SystemClock())
    product = make_product()
    product = msgspec.structs.replace(product, door=Door(product.operations, shedder=shedder))
    kind: Any = fronted(
        bounded_protocol(max_head_bytes=8_192, head_timeout_s=5), Front(product, shedder)
    )
    timers: list[asyncio.TimerHandle] = []

    class Watched(kind):  # type: ignore[misc]
        def _rest(self, seconds: float) -> None:
            super()._rest(seconds)
            timers.append(self.timeout_keep_alive_task)

    config = uvicorn.Config(http_app(ShopEntry(), product), http=Watched, lifespan="off")
    protocol = Watched(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    protocol.connection_made(wire)
    held = shedder.take("main")
    protocol.data_received(GET + GET)
    assert wire.written.count(b"HTTP/1.1 503") == 2
    assert timers[0] is timers[1]
    assert not timers[0].cancelled()
    held.leave()
    protocol.data_received(GET)
    protocol.timeout_keep_alive_handler()  # as if it rang: a request is in progress
    assert not wire.closed
    while b"HTTP/1.1 200" not in wire.written:
        await asyncio.sleep(0)
    protocol.timeout_keep_alive_handler()  # it has rested for no time yet
    assert not wire.closed
    protocol.connection_lost(None)
    assert timers[-1].cancelled() or protocol.timeout_keep_alive_task is None


@pytest.mark.anyio
@pytest.mark.parametrize("target", [b"http://a:99999999/", b"foo://?x"])
async def test_a_target_that_is_none_takes_no_place_of_the_shedder(target: bytes) -> None:
    shedder = Shedder(SheddingSettings(), SystemClock())
    product = make_product()
    product = msgspec.structs.replace(product, door=Door(product.operations, shedder=shedder))
    kind: Any = fronted(
        bounded_protocol(max_head_bytes=8_192, head_timeout_s=5), Front(product, shedder)
    )
    config = uvicorn.Config(http_app(ShopEntry(), product), http=kind, lifespan="off")
    protocol = kind(config=config, server_state=ServerState(), app_state={})
    wire = Wire()
    protocol.connection_made(wire)
    protocol.data_received(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while not wire.written:
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert shedder.counts.present == 0
    protocol.connection_lost(None)
