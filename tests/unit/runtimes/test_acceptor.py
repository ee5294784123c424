"""A busy process accepts whoever connects soon; an idle one leaves the others their share."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tenfold.runtimes.front_protocol import Acceptor

pytestmark = pytest.mark.anyio
CROWD = 60


async def turns_until_all_are_in(turn_s: float, *, helped: bool) -> int:
    """How many turns of the event loop it takes, each of which is so long."""
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=2 * CROWD)
    listener.setblocking(False)
    acceptor = Acceptor(listener)
    made: list[asyncio.BaseTransport] = []

    class Line(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)
            if helped:
                acceptor.accept(loop, Line)  # type: ignore[arg-type]

    server = await loop.create_server(Line, sock=listener)
    crowd = [socket.create_connection(listener.getsockname()) for _ in range(CROWD)]
    turns = 0
    while len(made) < CROWD:
        turns += 1
        assert turns < 10 * CROWD
        time.sleep(turn_s)
        await asyncio.sleep(0)
    await acceptor.settle()
    for transport in made:
        transport.close()
    for connection in crowd:
        connection.close()
    server.close()
    await server.wait_closed()
    return turns


async def test_a_busy_process_accepts_many_in_a_turn() -> None:
    alone = await turns_until_all_are_in(0.02, helped=False)
    helped = await turns_until_all_are_in(0.02, helped=True)
    assert alone >= CROWD * 0.9  # what libuv does; once it does more, the acceptor can go
    assert helped < CROWD / 3


async def test_an_idle_process_leaves_the_others_their_share() -> None:
    assert await turns_until_all_are_in(0.0, helped=True) > CROWD / 3
