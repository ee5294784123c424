"""`tenfold run`: a product behind its HTTP edge, from the first check to the last drop of drain."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import uvicorn
import uvloop

from tenfold import __version__
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import TenfoldError
from tenfold.edges.http.app import http_app
from tenfold.edges.http.asgi import ASGIApp
from tenfold.edges.http.front import Front
from tenfold.edges.http.settings import HttpProduct, HttpSettings, ReadinessState
from tenfold.observe.metrics import render_metrics
from tenfold.runtimes.draining import Drain, DrainOrder
from tenfold.runtimes.front_protocol import Acceptor, fronted
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.http_protocol import bounded_protocol
from tenfold.runtimes.listening import bind, bracketed, greeting, refuse_open_doors
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.process import RunningProduct, running
from tenfold.runtimes.settings import HttpLimits
from tenfold.runtimes.topology import Product

__all__ = ["MountNotStartedError", "ServerExit", "StopWish", "serve", "serve_http", "signals"]

_log = logging.getLogger("tenfold.server")
_SAME_WISH_S = 1.0
"""Seconds in which a second signal is the same wish: a terminal's group and make send it twice."""
_TWICE = "for tests: all is delivered more than once; what is not safe to repeat is told in the end"


class ServerExit(IntEnum):
    """How a server's process ends."""

    STOPPED = 0
    """It was asked to stop, drained and did."""
    HURRIED = 130
    """It was asked twice, and left at once."""


class MountNotStartedError(TenfoldError):
    """A mounted application refused to start; the log has its reason."""

    code = "run.mount_not_started"


class StopWish:
    """Whether this process was asked to stop, and how."""

    def __init__(self, order: DrainOrder) -> None:
        """Begin unasked.

        Args:
            order: how to stop if nobody says how.
        """
        self.order = order
        self.asked = asyncio.Event()

    def ask(self, order: DrainOrder | None = None) -> None:
        """Ask for it; the first one counts."""
        if not self.asked.is_set():
            self.order = order or self.order
            self.asked.set()


def serve(product: Product, *, say: Callable[[str], None] = print) -> int:
    """Run a product until SIGINT or SIGTERM, which drain; another, a second later, ends it at once.

    For the process that does nothing else: it ignores both signals afterwards.

    Returns: the process's exit code.
    Raises: UserMistakeError, DataInUseError, PortInUseError before anything is
        started; whatever a module's start raises.
    """
    limits = product.topology.http
    refuse_open_doors(limits, product.origins)
    lock = DataLock.acquire(product.data_dir, "tenfold run")
    try:
        listener = bind(limits)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_serve(product, lock, listener, say))
        finally:
            listener.close()
    finally:
        lock.release()
    say("Drained and stopped.")
    return ServerExit.STOPPED


async def _serve(
    product: Product, lock: DataLock, listener: socket.socket, say: Callable[[str], None]
) -> None:
    # Nobody takes over from the only process, so it has no reason to wait for those who rest.
    wish = StopWish(DrainOrder(keep_idle=False))
    with signals(wish):
        async with running(product, lock, seed=True) as process:
            await serve_http(
                process, listener, wish, lambda: say(_greeting(product, listener)), drain=Drain()
            )


async def serve_http(
    process: RunningProduct,
    listener: socket.socket,
    wish: StopWish,
    ready: Callable[[], None],
    *,
    drain: Drain,
    metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> None:
    """Serve a product that runs here until it is wished to stop, then drain.

    Args:
        listener: bound; it may be shared with other processes, and is closed when the
            drain begins.
        ready: is called when connections are accepted.
        metrics: what /metrics answers with; without it, this process's own.
    Raises: MountNotStartedError.
    """
    if wish.asked.is_set():
        return
    state = _Readiness()
    server = _Server(
        _config(_http_product(process, state, metrics), process, drain, listener), drain
    )
    serving = asyncio.create_task(_listen(server, listener))
    asked = asyncio.create_task(wish.asked.wait())
    began = asyncio.create_task(server.began.wait())
    await asyncio.wait([serving, began], return_when=asyncio.FIRST_COMPLETED)
    if server.started:
        state.value = ReadinessState.READY
        ready()
    await asyncio.wait([serving, asked], return_when=asyncio.FIRST_COMPLETED)
    began.cancel()
    asked.cancel()
    state.value = ReadinessState.DRAINING
    if wish.order.linger_s and not serving.done():
        # A balancer may still send somebody: who comes is answered, and told to go.
        drain.begin(keep_idle=True)
        await asyncio.wait([serving], timeout=wish.order.linger_s)
    server.keep_idle = wish.order.keep_idle
    server.should_exit = True
    await serving


async def _listen(server: _Server, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit as error:  # uvicorn's way to say that a lifespan failed
        raise MountNotStartedError(
            "A mounted application did not start, so the product was stopped again. Its reason "
            "is in the log above."
        ) from error


class _Readiness:
    value = ReadinessState.STARTING


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self.began = asyncio.Event()
        self.keep_idle = True
        self._drain = drain

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.began.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, let every connection end, within a bound; then end the mounts.

        In place of uvicorn's own, which closes connections that rest or whose
        request is half here, and takes back a keep-alive that an answer promised.
        """
        waiting = [_accept(each) for each in sockets or []]
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        for connection in itertools.chain(*waiting):
            with contextlib.suppress(OSError):  # whoever connected has gone again
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        acceptor: Acceptor | None = getattr(self.config.http_protocol_class, "acceptor", None)
        if acceptor is not None:
            await acceptor.settle()
        self._drain.begin(keep_idle=self.keep_idle)
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                await self._drain.wait_closed()
                while self.server_state.tasks:  # whose callers have left
                    await asyncio.wait(list(self.server_state.tasks))
        except TimeoutError:
            left = list(self.server_state.tasks)
            if left:
                _log.error("%d requests did not end in time and are interrupted.", len(left))
            for task in left:
                task.cancel()
        await self.lifespan.shutdown()

    def _protocol(self) -> asyncio.Protocol:
        """What uvicorn makes for a connection that it has accepted itself."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: more than the HTTP server has to stop."""
        yield


def _accept(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted.

    The kernel resets them when the last process closes the socket, and some may
    have sent their request already, which nobody could repeat for them.
    """
    waiting = []
    with contextlib.suppress(OSError):  # BlockingIOError: there are no more
        while True:
            waiting.append(listener.accept()[0])
    for each in waiting:
        each.setblocking(False)
    return waiting


@contextmanager
def signals(wish: StopWish, *, interrupt: bool = True) -> Iterator[None]:
    """Take SIGTERM for a wish to stop; another, a second later, ends the process.

    Args:
        interrupt: so also SIGINT, which comes from a terminal.
    """
    loop = asyncio.get_running_loop()
    asked_s = 0.0
    numbers = (signal.SIGTERM, signal.SIGINT) if interrupt else (signal.SIGTERM,)

    def received() -> None:
        nonlocal asked_s
        if not asked_s:
            asked_s = loop.time()
            wish.ask()
        elif loop.time() - asked_s > _SAME_WISH_S:
            print("Stopping at once; what was not committed is not done.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(ServerExit.HURRIED)

    for number in numbers:
        loop.add_signal_handler(number, received)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
            # What is left is to end: a signal that comes late must not make it look like a crash.
            signal.signal(number, signal.SIG_IGN)


def _config(
    http: HttpProduct, process: RunningProduct, drain: Drain, listener: socket.socket
) -> uvicorn.Config:
    limits = process.product.topology.http
    app = http_app(process.host.entry, http)
    protocol = bounded_protocol(
        max_head_bytes=limits.max_header_bytes + limits.max_target_bytes,
        head_timeout_s=limits.header_timeout_s,
        drain=drain,
    )
    if http.door is not None and http.door.shedder is not None:
        protocol = fronted(protocol, Front(http, http.door.shedder), listener)
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom to believe about a client's address is the topology's to say (`trusted_proxies`).
        proxy_headers=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(limits.drain_s)),
        backlog=2048,
    )


def _http_product(
    process: RunningProduct,
    state: _Readiness,
    metrics: Callable[[], Awaitable[bytes]] | None,
) -> HttpProduct:
    host, product = process.host, process.product
    limits = product.topology.http
    gauges = Gauges(host)

    async def own_metrics() -> bytes:
        return render_metrics(host.stops.all(), await gauges.read())

    return HttpProduct(
        name=product.name,
        version=__version__,
        operations=host.operations,
        principal_of=lambda _: OPERATOR,
        readiness=lambda: state.value if host.healthy else ReadinessState.STARTING,
        metrics=metrics or own_metrics,
        settings=HttpSettings(
            max_body_bytes=limits.max_body_bytes,
            max_target_bytes=limits.max_target_bytes,
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
            max_depth=limits.max_depth,
            max_concurrent=limits.max_concurrent,
            body_timeout_s=limits.body_timeout_s,
            max_wait_s=limits.max_wait_s,
            allowed_origins=limits.allowed_origins,
            allowed_hosts=_allowed_hosts(limits),
            position_cookies=host.replicated,
            trusted_proxies=limits.trusted_proxies,
            forwarded_header=limits.forwarded_header,
        ),
        door=host.door,
        mounts=_mounts(process),
        edge=host.stops.edge,
    )


def _mounts(process: RunningProduct) -> dict[str, ASGIApp]:
    return {
        path: build(**process.host.arguments(build))
        for path, build in process.product.mounts.items()
    }


def _allowed_hosts(limits: HttpLimits) -> tuple[str, ...]:
    """The names of this machine to itself, and those that the topology adds.

    Without them a web page could reach the product through a name of its own
    that resolves to this machine, and act as its operator.
    """
    own = ["localhost", "127.0.0.1", "[::1]", bracketed(limits.host), *limits.allowed_hosts]
    return tuple(dict.fromkeys(name.lower() for name in own))


def _greeting(product: Product, listener: socket.socket) -> str:
    host = bracketed(product.topology.http.host)
    url = f"http://{host}:{listener.getsockname()[1]}"
    topology = product.topology
    runs = _TWICE if topology.repeated else ""
    return greeting(product.name, topology.name, product.mounts, product.data_dir, url, runs)
