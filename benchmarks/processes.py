"""Servers as processes of their own, and the clients that load them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "TENFOLD",
    "STORE",
    "Server",
    "fleet",
    "free_port",
    "load",
    "product_server",
    "request",
    "serving",
    "uvicorn_command",
    "uvicorn_server",
]

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "examples" / "store"
TENFOLD = [
    sys.executable,
    "-c",
    "import sys; from tenfold.cli.entry import main; sys.argv[0] = 'tenfold'; sys.exit(main())",
]
"""The command `tenfold` of what is installed here, whatever is on the PATH."""


class Server:
    """A server's process. `started_s` is how long it took until it answered."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, started_s: float) -> None:
        self.process = process
        self.port = port
        self.started_s = started_s

    @property
    def pid(self) -> int:
        """The process's number."""
        return self.process.pid


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, ready: str, cwd: Path = ROOT) -> Iterator[Server]:
    """Start a server, wait until `ready` answers 200, and end it after the block."""
    with fleet([(command, port, ready)], cwd) as (server,):
        yield server


@contextmanager
def fleet(
    wanted: Sequence[tuple[Sequence[str], int, str]],
    cwd: Path = ROOT,
    settings: Mapping[str, str] | None = None,
) -> Iterator[list[Server]]:
    """Start several servers side by side, wait for all of them, and end them after the block.

    Args:
        wanted: of each the command, the port, and what answers 200 once it is ready; where that
            is empty, a port that is listened on will do.
        settings: environment variables on top of this process's.
    """
    path = os.pathsep.join((str(ROOT), *sys.path))
    environ = {**os.environ, "PYTHONPATH": path, **(settings or {})}
    began = time.perf_counter()
    processes: list[subprocess.Popen[bytes]] = []
    servers: list[Server] = []
    try:
        for command, _, _ in wanted:
            processes.append(
                subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.DEVNULL)
            )
        for process, (command, port, ready) in zip(processes, wanted, strict=True):
            while not _answers(port, ready):
                if process.poll() is not None or time.perf_counter() - began > 120:
                    raise RuntimeError(f"{command} did not start")
                time.sleep(0.005)
            servers.append(Server(process, port, time.perf_counter() - began))
        yield servers
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)


@contextmanager
def product_server(product: Path, data: Path) -> Iterator[Server]:
    """`tenfold run` of a product on a data directory."""
    port = free_port()
    command = [*TENFOLD, "run", "--port", str(port), "--data", str(data)]
    with serving(command, port, "/_tenfold/ready", product) as server:
        yield server


@contextmanager
def uvicorn_server(app: str, *arguments: str) -> Iterator[Server]:
    """uvicorn as anyone would run it for speed: uvloop, httptools, no access log, one process."""
    port = free_port()
    with serving(uvicorn_command(app, port, *arguments), port, "/ready") as server:
        yield server


def uvicorn_command(app: str, port: int, *arguments: str) -> list[str]:
    """How `uvicorn_server` starts it."""
    return [
        sys.executable, "-m", "uvicorn", app, "--port", str(port), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--log-level", "warning", *arguments,
    ]  # fmt: skip


def load(port: int, requests: Sequence[bytes], connections: int) -> list[bytes]:
    """Send requests over a few kept connections, each waiting for its answer; returns bodies.

    Raises: RuntimeError at the first answer that is not a 2xx.
    """
    return asyncio.run(_load(port, requests, connections))


async def _load(port: int, requests: Sequence[bytes], connections: int) -> list[bytes]:
    waiting = iter(requests)
    bodies: list[bytes] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(length)
            if head[9:10] != b"2":
                raise RuntimeError(f"{head!r} {body!r}")
            bodies.append(body)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return bodies


def request(
    method: str, path: str, port: int, body: bytes | None = None, key: str | None = None
) -> bytes:
    """The bytes of one request; `key` is its idempotency key."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n"
    if key is not None:
        head += f"idempotency-key: {key}\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as peer:
            if not path:
                return True
            peer.sendall(request("GET", path, port))
            return peer.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
