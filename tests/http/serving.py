"""The shop behind a real uvicorn on a free port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from tenfold.edges.http.asgi import ASGIApp

__all__ = ["read_answer", "serving", "talk"]


@contextmanager
def serving(app: ASGIApp, http: type[asyncio.Protocol] | str = "httptools") -> Iterator[int]:
    """Serve an application on 127.0.0.1, by a protocol of HTTP; yields the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    config = uvicorn.Config(app, loop="uvloop", http=http, log_level="critical")  # type: ignore[arg-type]
    server = uvicorn.Server(config)
    listening = threading.Event()
    startup = server.startup

    async def announce(sockets: list[socket.socket] | None = None) -> None:
        await startup(sockets)
        listening.set()

    server.startup = announce  # type: ignore[method-assign]

    def run() -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(server.serve(sockets=[listener]))
        listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert listening.wait(20)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(20)


def read_answer(connection: socket.socket) -> bytes:
    """Everything up to the end of the connection, or of one answer with a Content-Length."""
    received = b""
    while True:
        head, found, body = received.partition(b"\r\n\r\n")
        if found:
            length = _length(head)
            if length is not None and len(body) >= length:
                return received
        part = connection.recv(65536)
        if not part:
            return received
        received += part


def talk(port: int, *raw: bytes, timeout_s: float = 20.0) -> bytes:
    """Send bytes as they are, and read one answer; empty where the server hung up."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        try:
            for part in raw:
                connection.sendall(part)
            return read_answer(connection)
        except (BrokenPipeError, ConnectionResetError):
            return b""


def _length(head: bytes) -> int | None:
    if head.split(b"\r\n")[0].split(b" ")[1] in (b"204", b"304"):
        return 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None
