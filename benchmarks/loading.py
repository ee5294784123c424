"""A load generator in a process of its own: kept connections, each waiting for its answer.

python -m benchmarks.loading < JSON: port, requests (base64), count, connections, per_s
                                  or port, scripts (lists of base64), per_s

With `per_s` the load is open: requests begin at their times whether or not
others were answered, and a latency counts from when it should have begun.
With `scripts` each connection is a user's, who sends a list of requests in its
order, each once its answer to the last is there.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, zip_longest
from typing import Any

import uvloop

from benchmarks.measure import part

__all__ = ["Loaded", "load_by_users", "load_from_outside", "main"]


@dataclass(frozen=True)
class Loaded:
    """What a load saw: how long it took, latencies of what was answered 2xx, and what was not.

    `refusal` is the first answer that was not 2xx, `cpu_s` what the generator itself spent.
    """

    seconds: float
    answered: int
    failed: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    cpu_s: float
    refusal: str

    @property
    def per_s(self) -> float:
        """Requests a second that were answered 2xx."""
        return self.answered / self.seconds


def load_from_outside(
    port: int, requests: Sequence[bytes], count: int, connections: int, per_s: float = 0.0
) -> Loaded:
    """Load a server from a process of its own; the requests are sent in turns, over and over."""
    asked = {
        "port": port,
        "requests": [base64.b64encode(each).decode() for each in requests],
        "count": count,
        "connections": connections,
        "per_s": per_s,
    }
    return _from_outside(asked)


def load_by_users(port: int, scripts: Sequence[Sequence[bytes]], per_s: float = 0.0) -> Loaded:
    """The same, of users: each sends its own requests in their order, over its own connection.

    With `per_s` requests fall due in turns, user by user; one whose user still waits for an
    answer begins later, and counts from when it fell due.
    """
    coded = [[base64.b64encode(each).decode() for each in script] for script in scripts]
    return _from_outside({"port": port, "scripts": coded, "per_s": per_s})


def _from_outside(asked: dict[str, Any]) -> Loaded:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.loading"],
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    return Loaded(**json.loads(done.stdout))


class _Client(asyncio.Protocol):
    """One connection: sends a request, reads the answer to its last byte, tells the load."""

    def __init__(self, load: _Load, lane: _Lane) -> None:
        self._load = load
        self.lane = lane
        self._data = b""
        self._due = 0.0
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes, due: float) -> None:
        self._due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        low = self._data[:head].lower()
        at = low.find(b"content-length:")
        end = low.find(b"\r\n", at)
        length = int(low[at + 15 : end if end > 0 else None]) if at >= 0 else 0
        if len(self._data) < head + 4 + length:
            return
        took, whole, self._data = time.perf_counter() - self._due, self._data, b""
        self._load.answered(self, took, None if whole[9:10] == b"2" else whole)

    def connection_lost(self, error: Exception | None) -> None:
        self._load.lost(self, waiting=self._due > 0)


class _Lane:
    """Connections that share what they send: all of them, or a user's one."""

    def __init__(self, requests: Iterator[bytes], count: int, connections: int) -> None:
        self.requests = requests
        self.left = count
        self.connections = connections
        self.idle: deque[_Client] = deque()
        self.due: deque[float] = deque()


class _Load:
    """All connections of a load."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._port = asked["port"]
        self._per_s = asked["per_s"]
        if "scripts" in asked:
            scripts = [_decoded(script) for script in asked["scripts"]]
            self._lanes = [_Lane(iter(script), len(script), 1) for script in scripts]
        else:
            requests = cycle(_decoded(asked["requests"]))
            self._lanes = [_Lane(requests, asked["count"], asked["connections"])]
        self._open = sum(lane.left for lane in self._lanes)
        self._failed = 0
        self._refusal = ""
        self._took: list[float] = []
        self._over = asyncio.Event()

    async def run(self) -> Loaded:
        loop = asyncio.get_running_loop()
        for lane in self._lanes:
            for _ in range(lane.connections):
                make = partial(_Client, self, lane)
                _, client = await loop.create_connection(make, "127.0.0.1", self._port)
                lane.idle.append(client)
        began, cpu = time.perf_counter(), time.process_time()
        if self._per_s:
            await self._open_loop(began)
        else:
            for lane in self._lanes:
                for _ in range(min(lane.connections, lane.left)):
                    self._next(lane.idle.popleft(), time.perf_counter())
        await self._over.wait()
        seconds = time.perf_counter() - began
        self._took.sort()
        return Loaded(
            seconds,
            len(self._took),
            self._failed,
            self._part(0.5),
            self._part(0.95),
            self._part(0.99),
            time.process_time() - cpu,
            self._refusal,
        )

    async def _open_loop(self, began: float) -> None:
        by_lane = [[lane] * lane.left for lane in self._lanes]
        turns = (lane for some in zip_longest(*by_lane) for lane in some if lane is not None)
        for number, lane in enumerate(turns):
            due = began + number / self._per_s
            wait_s = due - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            if lane.idle:
                self._next(lane.idle.popleft(), due)
            else:
                lane.due.append(due)
                if not number % 64:
                    await asyncio.sleep(0)

    def _next(self, client: _Client, due: float) -> None:
        client.lane.left -= 1
        client.send(next(client.lane.requests), due)

    def answered(self, client: _Client, took: float, refused: bytes | None) -> None:
        if refused is None:
            self._took.append(took)
        else:
            self._failed += 1
            self._refusal = self._refusal or refused.decode("latin-1")
        self._ended(client)

    def lost(self, client: _Client, *, waiting: bool) -> None:
        if waiting and self._open > 0:
            raise SystemExit("the server closed a connection under load")

    def _ended(self, client: _Client) -> None:
        self._open -= 1
        if not self._open:
            self._over.set()
        elif self._per_s:
            if client.lane.due:
                self._next(client, client.lane.due.popleft())
            else:
                client.lane.idle.append(client)
        elif client.lane.left:
            self._next(client, time.perf_counter())

    def _part(self, share: float) -> float:
        return part(self._took, share) * 1000


def _decoded(coded: Sequence[str]) -> list[bytes]:
    return [base64.b64decode(each) for each in coded]


def main() -> None:
    """Load as standard input says, and print what was seen as JSON."""
    asked = json.load(sys.stdin)
    print(json.dumps(vars(uvloop.run(_Load(asked).run()))))


if __name__ == "__main__":
    main()
