"""Requests that leave on schedule, whatever comes back: an open model, in a process of its own.

Latency counts from the moment at which a request was due, not from when it could be sent, so
that a server which stalls is not spared the requests that it kept from leaving.

    generator.py PORT[,PORT...]   then lines of "RATE SECONDS" on stdin; a JSON line for each
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque

import msgspec
import uvloop

REQUEST = b"GET /v1/work HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\nuser-agent: load\r\n\r\n"
MOST_CONNECTIONS = 2_000
PATIENCE_S = 5.0


class Line(asyncio.Protocol):
    """One connection, with at most one request on its way."""

    def __init__(self, load: Load, port: int) -> None:
        self.load = load
        self.port = port
        self.due_s: float | None = None
        self.transport: asyncio.Transport | None = None
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        if self.due_s is not None:
            self.transport.write(REQUEST)  # type: ignore[union-attr]

    def send(self, due_s: float) -> None:
        self.due_s = due_s
        if self.transport is not None:
            self.transport.write(REQUEST)

    def data_received(self, data: bytes) -> None:
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        self._got = b""
        assert self.due_s is not None
        self.load.answered(self, self.due_s, int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.lost(self)


class Load:
    """What is on its way, and what came of what was due in the present phase."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.free: dict[int, deque[Line]] = {port: deque() for port in ports}
        self.connections = 0
        self.begin(0.0)

    def begin(self, at_s: float) -> None:
        self.at_s = at_s
        self.ok: list[tuple[float, float]] = []
        self.refused: list[float] = []
        self.other: dict[str, int] = {}
        self.unsent = 0

    def request(self, port: int, due_s: float) -> None:
        line = self.free[port].pop() if self.free[port] else None
        if line is not None:
            line.send(due_s)
        elif self.connections >= MOST_CONNECTIONS:
            self.unsent += 1
        else:
            self.connections += 1
            line = Line(self, port)
            line.due_s = due_s
            loop = asyncio.get_running_loop()
            task = loop.create_task(loop.create_connection(lambda: line, "127.0.0.1", port))
            task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[object]) -> None:
        if task.exception() is not None:
            self.connections -= 1
            self._count(repr(task.exception()))

    def answered(self, line: Line, due_s: float, status: int) -> None:
        took_s = time.monotonic() - due_s
        line.due_s = None
        self.free[line.port].append(line)
        if due_s < self.at_s:
            self._count("late from the phase before")
        elif status == 200:
            self.ok.append((due_s - self.at_s, took_s))
        elif status == 503:
            self.refused.append(took_s)
        else:
            self._count(str(status))

    def lost(self, line: Line) -> None:
        self.connections -= 1
        if line.due_s is not None:
            self._count("connection lost")
        elif line in self.free[line.port]:
            self.free[line.port].remove(line)

    def _count(self, what: str) -> None:
        self.other[what] = self.other.get(what, 0) + 1

    async def phase(self, per_s: float, seconds: float) -> None:
        begun_s = time.monotonic()
        self.begin(begun_s)
        total = int(per_s * seconds)
        sent, behind_s = 0, 0.0
        while sent < total:
            now_s = time.monotonic()
            while sent < total and (due_s := begun_s + sent / per_s) <= now_s:
                self.request(self.ports[sent % len(self.ports)], due_s)
                behind_s = max(behind_s, now_s - due_s)
                sent += 1
            await asyncio.sleep(0.001)
        # What is on its way at the end belongs to this phase still, for a moment.
        await asyncio.sleep(0.05)
        print(
            msgspec.json.encode(
                {
                    "offered": per_s,
                    "seconds": seconds,
                    "sent": sent,
                    "ok": self.ok,
                    "refused": self.refused,
                    "other": self.other,
                    "unsent": self.unsent,
                    "behind_s": behind_s,
                    "connections": self.connections,
                }
            ).decode(),
            flush=True,
        )


async def main(ports: list[int]) -> None:
    load = Load(ports)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        per_s, seconds = map(float, line.split())
        await load.phase(per_s, seconds)


if __name__ == "__main__":
    uvloop.run(main([int(port) for port in sys.argv[1].split(",")]))
