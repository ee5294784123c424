"""Servers as processes of their own, and the clients that load them."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "STORE",
    "Server",
    "free_port",
    "load",
    "product_server",
    "request",
    "serving",
    "uvicorn_server",
]

ROOT = Path(__file__).resolve().parent.parent
STORE = ROOT / "examples" / "store"
_RUN = "import sys; from tenfold.cli.entry import main; sys.exit(main())"


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
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *sys.path))}
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.DEVNULL)
    try:
        while not _answers(port, ready):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise RuntimeError(f"{command} did not start")
            time.sleep(0.005)
        yield Server(process, port, time.perf_counter() - began)
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def product_server(product: Path, data: Path) -> Iterator[Server]:
    """`tenfold run` of a product on a data directory."""
    port = free_port()
    command = [sys.executable, "-c", _RUN, "run", "--port", str(port), "--data", str(data)]
    with serving(command, port, "/_tenfold/ready", product) as server:
        yield server


@contextmanager
def uvicorn_server(app: str, *arguments: str) -> Iterator[Server]:
    """uvicorn as anyone would run it for speed: uvloop, httptools, no access log, one process."""
    port = free_port()
    command = [
        sys.executable, "-m", "uvicorn", app, "--port", str(port), "--loop", "uvloop",
        "--http", "httptools", "--no-access-log", "--log-level", "warning", *arguments,
    ]  # fmt: skip
    with serving(command, port, "/ready") as server:
        yield server


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


def request(method: str, path: str, port: int, body: bytes | None = None) -> bytes:
    """The bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _answers(port: int, path: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as peer:
            peer.sendall(request("GET", path, port))
            return peer.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
