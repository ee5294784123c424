"""One process of a service whose handlers wait: `python -m tests.campaigns.waiting_server FD WAIT`.

It works on sixteen calls at a time and lets others wait, and ends when its input does. They wait
for long beside what a busy machine adds, so that what is measured is the choice.
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

    async def call(self, incoming: Incoming) -> Reply:
        async with self._room:
            await asyncio.sleep(self._wait_s * self._draw.uniform(0.5, 1.5))
        return Reply(value="done", trace=_TRACE)


async def _serve(fd: int, wait_s: float) -> None:
    server = FrameServer("waiting", _Entry(wait_s), OPERATIONS)
    with socket.socket(fileno=fd) as listener:
        listener.setblocking(False)
        await server.listen(listener)
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(drain_s=1)


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), float(sys.argv[2])))
