"""Calls between two processes, 64 at once: frames beside aiohttp and grpcio's asyncio.

Once bare, and once with deadline, identity, trace and circuit breaker at both ends (`equipped`).

python -m benchmarks.frames [--rounds N]

Each side is a server process and a client process that asks it for as long as a
round takes. All three carry the same arguments and answer as MessagePack, over one
Unix socket for frames and loopback TCP for the others, with uvloop on both ends
(grpcio has a loop of its own beneath). aiohttp's client keeps its connections.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.echo import (
    AT_ONCE,
    METHOD,
    OPERATIONS,
    SPEC,
    TRACE,
    Ask,
    Said,
    decode,
    encode,
    serve_grpc,
    serve_http,
)
from benchmarks.equipped import SIDES as EQUIPPED
from benchmarks.measure import Figure, Noise, interleave
from tenfold.adapters.frames.link import connect
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.peers import Outgoing

SECONDS = 2.0
GOALS = {
    "frames": {"aiohttp": "4", "grpcio aio": "15"},
    "frames, equipped": {"aiohttp, equipped": "2.5", "grpcio aio, equipped": "8"},
}


class _Echo:
    async def call(self, incoming: Incoming) -> Reply:
        arguments: Any = incoming.arguments
        return Reply(value=Said(text=arguments.text, number=arguments.number), trace=TRACE)


async def _serve_frames(place: str) -> None:
    await FrameServer("bench", _Echo(), OPERATIONS).start(Path(place))


async def _serve_aiohttp(place: str) -> None:
    from aiohttp import web

    async def say(request: web.Request) -> web.Response:
        return web.Response(body=encode(decode(await request.read())))

    await serve_http(place, say)


async def _serve_grpcio(place: str) -> None:
    async def say(request: Said, _: Any) -> Said:
        return request

    await serve_grpc(place, say)


@asynccontextmanager
async def _ask_frames(place: str) -> AsyncIterator[Ask]:
    async with await connect(Path(place)) as link:

        async def ask(said: Said) -> Any:
            arguments = SPEC.arguments(text=said.text, number=said.number)
            outgoing = Outgoing(operation=SPEC, arguments=arguments)
            return (await link.call(outgoing)).value

        yield ask


@asynccontextmanager
async def _ask_aiohttp(place: str) -> AsyncIterator[Ask]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    async with aiohttp.ClientSession(connector=connector) as session:
        url = f"http://127.0.0.1:{place}/say"

        async def ask(said: Said) -> Any:
            async with session.post(url, data=encode(said)) as answer:
                return decode(await answer.read())

        yield ask


@asynccontextmanager
async def _ask_grpcio(place: str) -> AsyncIterator[Ask]:
    import grpc

    async with grpc.aio.insecure_channel(f"127.0.0.1:{place}") as channel:
        yield channel.unary_unary(METHOD, request_serializer=encode, response_deserializer=decode)


SIDES: dict[str, tuple[Callable[[str], Awaitable[None]], Callable[[str], Any]]] = {
    "frames": (_serve_frames, _ask_frames),
    "aiohttp": (_serve_aiohttp, _ask_aiohttp),
    "grpcio aio": (_serve_grpcio, _ask_grpcio),
    **EQUIPPED,
}


async def _calls_per_s(name: str, place: str) -> float:
    """How many calls a second one client process gets answered."""
    async with AsyncExitStack() as stack:
        ask: Ask = await stack.enter_async_context(SIDES[name][1](place))
        said = Said(text="hello world", number=7)
        assert await ask(said) == said
        done = 0
        until = time.perf_counter() + SECONDS

        async def go_on() -> None:
            nonlocal done
            while time.perf_counter() < until:
                await ask(said)
                done += 1

        began = time.perf_counter()
        await asyncio.gather(*(go_on() for _ in range(AT_ONCE)))
        return done / (time.perf_counter() - began)


def _round(name: str, place: str) -> float:
    return uvloop.run(_calls_per_s(name, place))


@contextlib.contextmanager
def _serving(name: str, place: str) -> Iterator[None]:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.frames", "--serve", name, place],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise SystemExit(f"The server of {name} did not start.")
        yield
    finally:
        server.kill()
        server.communicate()


async def _serve(name: str, place: str) -> None:
    await SIDES[name][0](place)
    print("ready", flush=True)
    await asyncio.Event().wait()


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def main() -> None:
    """Print calls a second of each, and what frames do in times of the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frames", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", nargs=2, metavar=("SIDE", "PLACE"))
    given = parser.parse_args()
    if given.serve:
        uvloop.run(_serve(*given.serve))
        return
    noise = Noise()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="tf-"))
        places = {n: f"{folder}/{n}" if n in GOALS else _free_port() for n in SIDES}
        for name, place in places.items():
            stack.enter_context(_serving(name, place))
        run = {name: partial(_round, name, place) for name, place in places.items()}
        values = interleave(run, given.rounds, noise)
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    for name, each in values.items():
        print(Figure(f"{name}: calls between two processes", "calls/s", each).line())
    for ours, goals in GOALS.items():
        for theirs, goal in goals.items():
            pairs = zip(values[ours], values[theirs], strict=True)
            ratios = [one / other for one, other in pairs]
            print(Figure(f"{ours} in times of {theirs}", "x", ratios, f"goal {goal}").line())
    print(noise.line())


if __name__ == "__main__":
    main()
