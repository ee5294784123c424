"""`tenfold run`: a product behind its HTTP edge, from the first check to the last drop of drain."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum

import uvicorn
import uvloop

from tenfold import __version__
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.edges.http.app import http_app
from tenfold.edges.http.asgi import ASGIApp
from tenfold.edges.http.settings import HttpProduct, HttpSettings, ReadinessState
from tenfold.observe.metrics import render_metrics
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.http_protocol import bounded_protocol
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.process import RunningProduct, running
from tenfold.runtimes.settings import HttpLimits
from tenfold.runtimes.topology import Product

__all__ = ["MountNotStartedError", "PortInUseError", "ServerExit", "serve"]

_SAME_WISH_S = 1.0
"""Seconds in which a second signal is the same wish: a terminal's group and make send it twice."""


class ServerExit(IntEnum):
    """How a server's process ends."""

    STOPPED = 0
    """It was asked to stop, drained and did."""
    HURRIED = 130
    """It was asked twice, and left at once."""


class MountNotStartedError(TenfoldError):
    """A mounted application refused to start; the log has its reason."""

    code = "run.mount_not_started"


class PortInUseError(TenfoldError):
    """Another process listens on the port; nothing was started."""

    code = "run.port_in_use"


def serve(product: Product, *, say: Callable[[str], None] = print) -> int:
    """Run a product until SIGINT or SIGTERM, which drain; another, a second later, ends it at once.

    For the process that does nothing else: it ignores both signals afterwards.

    Returns: the process's exit code.
    Raises: UserMistakeError, DataInUseError, PortInUseError before anything is
        started; whatever a module's start raises.
    """
    limits = product.topology.http
    _refuse_open_doors(limits, product)
    lock = DataLock.acquire(product.data_dir, "tenfold run")
    try:
        listener = _bind(limits)
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
    stop = asyncio.Event()
    with _signals(stop):
        async with running(product, lock, seed=True) as process:
            if stop.is_set():
                return
            state = _Readiness()
            server = _Server(_config(process, state))
            serving = asyncio.create_task(_listen(server, listener))
            stopping = asyncio.create_task(stop.wait())
            began = asyncio.create_task(server.began.wait())
            await asyncio.wait([serving, began], return_when=asyncio.FIRST_COMPLETED)
            if server.started:
                state.value = ReadinessState.READY
                say(_greeting(product, listener))
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            began.cancel()
            state.value = ReadinessState.DRAINING
            server.should_exit = True
            stopping.cancel()
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
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.began = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say so."""
        await super().startup(sockets)
        self.began.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours: more than the HTTP server has to stop."""
        yield


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    asked_s = 0.0

    def received() -> None:
        nonlocal asked_s
        if not stop.is_set():
            asked_s = loop.time()
            stop.set()
        elif loop.time() - asked_s > _SAME_WISH_S:
            print("Stopping at once; what was not committed is not done.", file=sys.stderr)
            sys.stderr.flush()
            os._exit(ServerExit.HURRIED)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            # What is left is to end: a signal that comes late must not make it look like a crash.
            signal.signal(number, signal.SIG_IGN)


def _config(process: RunningProduct, state: _Readiness) -> uvicorn.Config:
    limits = process.product.topology.http
    app = http_app(process.host.entry, _http_product(process, state))
    protocol = bounded_protocol(
        max_head_bytes=limits.max_header_bytes + limits.max_target_bytes,
        head_timeout_s=limits.header_timeout_s,
    )
    return uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        loop="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=max(1, round(limits.keep_alive_s)),
        timeout_graceful_shutdown=max(1, round(limits.drain_s)),
        backlog=2048,
    )


def _http_product(process: RunningProduct, state: _Readiness) -> HttpProduct:
    host, product = process.host, process.product
    limits = product.topology.http
    gauges = Gauges(host)

    async def metrics() -> bytes:
        return render_metrics(host.stops.all(), await gauges.read())

    return HttpProduct(
        name=product.name,
        version=__version__,
        operations=host.operations,
        principal_of=lambda _: OPERATOR,
        readiness=lambda: state.value if host.healthy else ReadinessState.STARTING,
        metrics=metrics,
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
        ),
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
    own = ["localhost", "127.0.0.1", "[::1]", _bracketed(limits.host), *limits.allowed_hosts]
    return tuple(dict.fromkeys(name.lower() for name in own))


def _refuse_open_doors(limits: HttpLimits, product: Product) -> None:
    """Nobody outside this machine may act as the operator without saying who they are."""
    if _is_loopback(limits.host):
        return
    place = product.origins.of(("http", "host")) if product.origins is not None else "default"
    raise UserMistakeError(
        f"{place}: the host is {limits.host!r}, which other machines can reach, and callers are "
        "not authenticated: everyone who connects would act as the operator. Nothing was "
        "started. Listen on 127.0.0.1, and let a proxy that authenticates its callers forward "
        "to it."
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _bind(limits: HttpLimits) -> socket.socket:
    host = "127.0.0.1" if limits.host == "localhost" else limits.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, limits.port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"Another process listens on {limits.host}:{limits.port}. Nothing was started. "
                "Stop it, or choose another port with --port or PORT."
            ) from error
        raise UserMistakeError(
            f"{limits.host}:{limits.port} cannot be listened on: {error.strerror}. Nothing was "
            "started. Choose another with --host and --port."
        ) from error
    listener.setblocking(False)
    return listener


def _bracketed(host: str) -> str:
    return f"[{host.strip('[]')}]" if ":" in host else host


def _greeting(product: Product, listener: socket.socket) -> str:
    host = _bracketed(product.topology.http.host)
    url = f"http://{host}:{listener.getsockname()[1]}"
    lines = [f"Tenfold {__version__} · {product.name} · topology {product.topology.name}", ""]
    if "/" in product.mounts:
        lines.append(f"  open     {url}/")
    lines += [f"  mounted  {url}{path}" for path in product.mounts if path != "/"]
    lines += [
        f"  API      {url}/docs",
        f"  data     {product.data_dir}",
        "",
        "  Callers are not authenticated: whoever connects from this machine acts as its",
        "  operator. Other machines cannot connect.",
        "",
        "Ctrl-C drains and stops.",
    ]
    return "\n".join(lines)
