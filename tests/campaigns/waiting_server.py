"""One process of a service whose handlers wait: `waiting_server FD WAIT LOSES`.

It works on sixteen calls at a time and lets others wait, and ends when its input does; then it
says how many calls came. They wait for long beside what a busy machine adds, so that what is
measured is the choice. Every LOSES seconds, unless that is 0, it loses its connections with all
that is in progress on them, as if it had been killed and started again at once.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
from typing import Protocol

import uvloop

from tenfold import Contract, query
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply

__all__ = ["AT_ONCE", "OPERATIONS", "WAIT_S"]

AT_ONCE = 16
WAIT_S = 0.1
_TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Waiting(Contract, Protocol):
    """What takes a while."""

    @query(who="internal")
    async def wait(self) -> str:
        """Who answers, after between a half and three halves of its usual time."""
        ...

    @query(who="internal", hedge=True)
    async def hedged(self) -> str:
        """The same, asked of two where one takes long."""
        ...


OPERATIONS = {f"waiting.{n}": spec for n, spec in read_contract(Waiting).operations.items()}


class _Entry:
    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._room = asyncio.Semaphore(AT_ONCE)
        self._draw = random.Random()
        self.seen = 0

    async def call(self, incoming: Incoming) -> Reply:
        self.seen += 1
        async with self._room:
            await asyncio.sleep(self._wait_s * self._draw.uniform(0.5, 1.5))
        return Reply(value="done", trace=_TRACE)


async def _lose(server: FrameServer, every_s: float) -> None:
    while True:
        await asyncio.sleep(every_s)
        for connection in list(server.connections):
            if connection.transport is not None:
                connection.transport.abort()


async def _serve(fd: int, wait_s: float, loses_s: float) -> None:
    entry = _Entry(wait_s)
    server = FrameServer("waiting", entry, OPERATIONS)
    with socket.socket(fileno=fd) as listener:
        listener.setblocking(False)
        await server.listen(listener)
        print("ready", flush=True)
        losing = asyncio.create_task(_lose(server, loses_s)) if loses_s else None
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        if losing is not None:
            losing.cancel()
        await server.stop(drain_s=1)
        print(entry.seen, flush=True)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
