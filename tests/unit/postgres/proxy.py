"""A proxy before PostgreSQL that counts round trips, and cuts connections at a word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

When = Literal["before", "after"]


class Proxy:
    """Passes everything on. `trips` are the answers that ended with ReadyForQuery."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self.url = ""
        self._port = 0
        self.trips = 0
        self.connections = 0
        self._cut: tuple[bytes, When] | None = None
        self._for_good = False
        self.cuts = 0
        self._hold: bytes | None = None
        self.held = asyncio.Event()
        self.go = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listening: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen on a free port; returns the URL to connect to."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._port = port = self._listening.sockets[0].getsockname()[1]
        user = self._server.username or "postgres"
        return urlunsplit(
            self._server._replace(netloc=f"{user}@127.0.0.1:{port}", query="sslmode=disable")
        )

    async def start_again(self) -> None:
        """Listen at the same port as before."""
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def stop(self) -> None:
        """Close everything."""
        self.go.set()
        if self._listening is not None:
            self._listening.close()
        for writer in list(self._writers):
            writer.transport.abort()
        if self._listening is not None:
            await self._listening.wait_closed()

    def cut(self, word: bytes, when: When, *, for_good: bool = False) -> None:
        """Cut the next connection that sends a word: before it is passed on, or after.

        After means that the server has done it, and nobody hears of that. For good means that
        nobody can connect from then on.
        """
        self._cut = (word, when)
        self._for_good = for_good

    def hold(self, word: bytes) -> None:
        """Keep the next bytes that have a word in them until `go`; `held` tells when they are."""
        self._hold = word

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        host, port = self._server.hostname, self._server.port
        upstream_reader, upstream = await asyncio.open_connection(host, port)
        self._writers |= {writer, upstream}
        deaf = asyncio.Event()

        async def to_server(data: bytes) -> None:
            if self._hold is not None and self._hold in data:
                self._hold = None
                self.held.set()
                await self.go.wait()
            if self._cut is not None and self._cut[0] in data:
                when, self._cut = self._cut[1], None
                self.cuts += 1
                if self._for_good and self._listening is not None:
                    self._listening.close()
                if when == "before":
                    writer.transport.abort()
                    upstream.transport.abort()
                    return
                deaf.set()
            upstream.write(data)
            await upstream.drain()

        counter = _Counter()

        async def to_client(data: bytes) -> None:
            done = counter.feed(data)
            if deaf.is_set():
                writer.transport.abort()
                upstream.transport.abort()
                return
            self.trips += done
            writer.write(data)
            await writer.drain()

        pumps = [
            asyncio.ensure_future(_pump(reader, to_server)),
            asyncio.ensure_future(_pump(upstream_reader, to_client)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            writer.close()
            upstream.close()
            self._writers -= {writer, upstream}


class _Counter:
    """Counts the server's messages of the kind ReadyForQuery."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> int:
        found, data = 0, self._left + data
        while len(data) >= 5:
            length = int.from_bytes(data[1:5], "big") + 1
            if len(data) < length:
                break
            found += data[:1] == b"Z"
            data = data[length:]
        self._left = data
        return found


async def _pump(reader: asyncio.StreamReader, give: Callable[[bytes], Awaitable[None]]) -> None:
    try:
        while data := await reader.read(65_536):
            await give(data)
    except OSError:
        pass
