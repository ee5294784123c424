"""One process of several, started by a supervisor: `python -m tenfold.runtimes.child NAME FD`.

It is a fresh interpreter each time, so that a restart runs the code that is on
the disk. What it is to do comes over its link.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import io
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop

from tenfold.contracts.errors import TenfoldError
from tenfold.edges.frames import FrameServer
from tenfold.observe.logs import configure_logs
from tenfold.runtimes.draining import Drain, DrainOrder
from tenfold.runtimes.gathering import ProcessMetrics
from tenfold.runtimes.hosting import WEB
from tenfold.runtimes.links import (
    BEAT_S,
    Assignment,
    ChildLink,
    Divert,
    Diverted,
    Done,
    Failed,
    Order,
    Ready,
)
from tenfold.runtimes.preparing import Phase, prepare
from tenfold.runtimes.process import RunningProduct, hosted
from tenfold.runtimes.server import StopWish, serve_http, signals
from tenfold.runtimes.services import Place, answer_at
from tenfold.runtimes.topology import Product, load_product

__all__ = ["main"]

_log = logging.getLogger("tenfold.child")


def main(arguments: list[str]) -> int:
    """Do what the link says until it says to stop; returns the exit code."""
    faulthandler.enable()
    _write_whole_lines()
    # A terminal's Ctrl-C is the supervisor's to understand.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    link = ChildLink(int(arguments[1]))
    assignment = link.assignment
    configure_logs(people=assignment.people, process=assignment.name)
    for talkative in ("alembic", "uvicorn"):
        logging.getLogger(talkative).setLevel(logging.WARNING)
    try:
        product = load_product(
            Path(assignment.file), assignment.topology, overrides=assignment.overrides
        )
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_do(product, assignment, link))
    except TenfoldError as error:
        _log.debug("It could not begin.", exc_info=error)
        link.say(Failed(message=str(error), code=error.code))
        return 1
    except Exception as error:
        _log.exception("It ended by an unexpected %s.", type(error).__name__)
        link.say(Failed(message=f"It raised {type(error).__name__}: {error}. The log has more."))
        return 1
    return 0


async def _do(product: Product, assignment: Assignment, link: ChildLink) -> None:
    if assignment.task != "run":
        said = await prepare(product, Phase(assignment.task))
        link.say(Done(said=said))
        return
    wish = StopWish(DrainOrder())
    loop = asyncio.get_running_loop()

    def stop(order: DrainOrder) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, as it should
            loop.call_soon_threadsafe(wish.ask, order)

    with signals(wish, interrupt=False):
        link.on_stop(stop)
        beating: asyncio.Task[None] | None = None
        try:
            place = _place(product, assignment)
            async with hosted(product, assignment.role, place=place) as process:
                beating = asyncio.create_task(_beat(link))
                _divert(process, link)
                await _run(process, assignment, link, wish)
        finally:
            if beating is not None:
                beating.cancel()


async def _run(
    process: RunningProduct, assignment: Assignment, link: ChildLink, wish: StopWish
) -> None:
    metrics = ProcessMetrics(process.host, link)

    def ready() -> None:
        link.say(Ready())

    async with _answering(process, assignment):
        if assignment.listener is None:
            ready()
            await wish.asked.wait()
            return
        with socket.socket(fileno=assignment.listener) as listener:
            await serve_http(process, listener, wish, ready, drain=Drain(), metrics=metrics.text)


def _place(product: Product, assignment: Assignment) -> Place | None:
    if not product.topology.services:
        return None
    sockets = {name: Path(path) for name, path in assignment.sockets.items()}
    return Place(assignment.service, sockets, assignment.splitting)


def _divert(process: RunningProduct, link: ChildLink) -> None:
    """Let the supervisor say how much of a module's calls go to the service that has it too."""
    split = next(iter(process.host.splits.values()), None)
    if split is None:
        return
    loop = asyncio.get_running_loop()

    def set_share(order: Divert) -> None:
        split.share = order.share
        link.say_later(Diverted(number=order.number, counts=split.counts))

    def heard(order: Order) -> None:
        if isinstance(order, Divert):
            with contextlib.suppress(RuntimeError):  # the loop has ended, as it should
                loop.call_soon_threadsafe(set_share, order)

    link.on_order(heard)


@asynccontextmanager
async def _answering(process: RunningProduct, assignment: Assignment) -> AsyncIterator[None]:
    """Answer the calls of gateways and other services until the block ends, then drain."""
    if assignment.calls is None:
        yield
        return
    host = process.host
    server = FrameServer(
        process.product.name,
        host.entry,
        {target: spec for target, spec in host.operations.items() if host.hosts(target)},
        process=assignment.name,
    )
    with socket.socket(fileno=assignment.calls) as listener:
        listener.setblocking(False)
        await answer_at(server, listener, process.product, assignment.service or WEB)
        try:
            yield
        finally:
            await server.stop(drain_s=process.product.topology.http.drain_s)


async def _beat(link: ChildLink) -> None:
    """Say again and again that the loop turns: a process that hangs answers nobody."""
    while True:
        link.beat()
        await asyncio.sleep(BEAT_S)


def _write_whole_lines() -> None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
