"""One insert with one event, and one row read, over HTTP on PostgreSQL, beside two peers.

python -m benchmarks.http_postgres [--rounds N] [--requests N] [--connections 16 64]

All serve on uvicorn with uvloop and httptools from one process, with ten
connections to the same server (TENFOLD_TEST_POSTGRES_URL, else one that is
started). Writes are serializable everywhere. What is counted is the processor
time of the process that answers. Ours has its background work in a process of
its own; while the sides are compared it is held, since the peers' outbox rows
are relayed by nobody, and then it is counted by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loading import Loaded, load_from_outside
from benchmarks.measure import (
    Figure,
    Noise,
    descendants,
    exact_cpu_s,
    interleave,
    process_cpu_s,
)
from benchmarks.processes import TENFOLD, free_port, load, request, serving, uvicorn_server
from benchmarks.servers.postgres import fresh_database, postgres_server

__all__ = ["main", "processes_of"]

PRODUCT = Path(__file__).parent / "servers" / "notes"
BODY = b'{"title":"White hanging heart T-light holder","quantity":6}'
ROWS = 500
GOALS = {"SQLAlchemy ORM": "goal 6", "asyncpg": "goal 1.5"}


@dataclass(frozen=True)
class Peer:
    """One server, ready: the process that answers, and rows that can be read there."""

    name: str
    pid: int
    port: int
    rows: Sequence[str]

    def adds(self, path: str = "/v1/notes") -> list[bytes]:
        """The request that adds a row."""
        return [request("POST", path, self.port, BODY)]

    def reads(self) -> list[bytes]:
        """Requests that read a row each."""
        return [request("GET", f"/v1/notes/{row}", self.port) for row in self.rows]


@dataclass(frozen=True)
class Side:
    """What one side does, and what each round of it showed."""

    peer: Peer
    messages: Sequence[bytes]
    cpu_us: list[float]
    seen: list[Loaded]

    def run(self, count: int, connections: int) -> float:
        """One round; returns the processor time of a request in microseconds."""
        before = exact_cpu_s(self.peer.pid)
        seen = load_from_outside(self.peer.port, self.messages, count, connections)
        if seen.failed:
            raise RuntimeError(f"{self.peer.name} failed {seen.failed} of {count}: {seen.refusal}")
        cpu_us = (exact_cpu_s(self.peer.pid) - before) / count * 1e6
        self.cpu_us.append(cpu_us)
        self.seen.append(seen)
        return cpu_us


def processes_of(supervisor: int) -> dict[str, int]:
    """The processes that a supervisor has started, by name (Linux)."""
    found = {}
    for pid in descendants(supervisor):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except FileNotFoundError:  # it has just ended
            continue
        if b"tenfold.runtimes.child" in line:
            name = line[line.index(b"tenfold.runtimes.child") + 1]
            found[name.decode()] = pid
    return found


@contextmanager
def _tenfold(url: str) -> Iterator[tuple[int, int]]:
    """The product as `tenfold run` runs it: the supervisor's number, and the port."""
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        command = [
            *TENFOLD, "run", "--topology", "growth", "--port", str(port),
            "--data", data, "--web", "1", "--workers", "1", "--product", str(PRODUCT),
        ]  # fmt: skip
        os.environ["TENFOLD_DATABASE_URL"] = url
        # The worker is held for minutes, and would be taken for one that hangs.
        os.environ["TENFOLD_PROCESSES__HUNG_S"] = "3600"
        try:
            with serving(command, port, "/_tenfold/ready", PRODUCT) as server:
                yield server.pid, port
        finally:
            del os.environ["TENFOLD_DATABASE_URL"], os.environ["TENFOLD_PROCESSES__HUNG_S"]


def _with_rows(name: str, pid: int, port: int) -> Peer:
    add = request("POST", "/v1/notes", port, BODY)
    return Peer(name, pid, port, [json.loads(each)["id"] for each in load(port, [add] * ROWS, 8)])


@contextmanager
def _held(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _compare(
    sides: Mapping[str, Side], ours: str, rounds: int, count: int, connections: int, noise: Noise
) -> list[Figure]:
    """All sides in turns: processor time, requests a second, p99, and the ratios to ours."""
    for side in sides.values():
        side.run(count // 4, connections)
        side.cpu_us.clear()
        side.seen.clear()

    def running(side: Side) -> Callable[[], float]:
        return lambda: side.run(count, connections)

    interleave({name: running(side) for name, side in sides.items()}, rounds, noise)
    figures = []
    for name, side in sides.items():
        figures += [
            Figure(f"{name}, {connections} at once: CPU a request", "us", side.cpu_us),
            Figure(f"{name}, {connections} at once", "req/s", [s.per_s for s in side.seen]),
            Figure(f"{name}, {connections} at once: p99", "ms", [s.p99_ms for s in side.seen]),
        ]
    for name, side in sides.items():
        if side.peer.name not in GOALS:
            continue
        for mine, own in sides.items():
            if not mine.startswith(ours):
                continue
            ratios = [b / a for a, b in zip(own.cpu_us, side.cpu_us, strict=True)]
            figures.append(Figure(f"CPU: {name} over {mine}", "x", ratios, GOALS[side.peer.name]))
    return figures


def _background(
    peer: Peer, supervisor: int, worker: int, rounds: int, count: int, noise: Noise
) -> list[Figure]:
    """What the worker and the supervisor spend for each event, which one module hears of."""
    found: dict[str, list[float]] = {"web": [], "worker": [], "supervisor": []}
    pids = {"web": peer.pid, "worker": worker, "supervisor": supervisor}
    _rest(worker)
    for _ in range(rounds):
        noise.probe()
        before = {name: process_cpu_s(pid) for name, pid in pids.items()}
        load_from_outside(peer.port, peer.adds(), count, 16)
        _rest(worker)
        for name, pid in pids.items():
            found[name].append((process_cpu_s(pid) - before[name]) / count * 1e6)
    return [
        Figure(f"with its worker, 16 at once: CPU of the {name}", "us/command", values)
        for name, values in found.items()
    ]


def _rest(worker: int) -> None:
    """Wait until the worker has nothing left to do."""
    while True:
        before = process_cpu_s(worker)
        time.sleep(0.5)
        if process_cpu_s(worker) - before < 0.03:
            return


def _measure(server: str, given: argparse.Namespace, noise: Noise) -> Iterator[Figure]:
    with ExitStack() as stack:
        supervisor, port = stack.enter_context(
            _tenfold(stack.enter_context(fresh_database(server)))
        )
        processes = processes_of(supervisor)
        ours = _with_rows("Tenfold", processes["web-1"], port)
        peers = []
        for name, app in (("SQLAlchemy ORM", "notes_orm"), ("asyncpg", "notes_asyncpg")):
            os.environ["BENCH_URL"] = stack.enter_context(fresh_database(server))
            peer = stack.enter_context(uvicorn_server(f"benchmarks.servers.{app}:app"))
            peers.append(_with_rows(name, peer.pid, peer.port))
        with _held(processes["worker-1"]):
            for connections in given.connections:
                writing = {
                    "write, Tenfold, handed over": Side(ours, ours.adds(), [], []),
                    "write, Tenfold, awaited": Side(ours, ours.adds("/v1/notes-awaited"), [], []),
                    **{f"write, {p.name}": Side(p, p.adds(), [], []) for p in peers},
                }
                reading = {f"read, {p.name}": Side(p, p.reads(), [], []) for p in (ours, *peers)}
                sizes = given.rounds, given.requests, connections
                yield from _compare(writing, "write, Tenfold", *sizes, noise)
                yield from _compare(reading, "read, Tenfold", *sizes, noise)
        yield from _background(
            ours, supervisor, processes["worker-1"], given.rounds, given.requests, noise
        )


def main() -> None:
    """Measure, and print each figure beside what it is compared with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_postgres")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=3_000)
    parser.add_argument("--connections", type=int, nargs="+", default=[16, 64])
    given = parser.parse_args()
    noise = Noise()
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    with postgres_server() as server:
        for figure in _measure(server, given, noise):
            print(figure.line(), flush=True)
    print(noise.line())


if __name__ == "__main__":
    main()
