"""The boutique as it runs on each side: which processes there are, and what they have spent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from benchmarks.boutique.peers.sql import make_tables
from benchmarks.http_postgres import processes_of
from benchmarks.measure import descendants, exact_cpu_s
from benchmarks.processes import TENFOLD, fleet, free_port, uvicorn_command
from tenfold.runtimes.topology import read_product_file

__all__ = ["CASES", "MODULES", "Postgres", "Side", "product_file", "sides_of"]

FOLDER = Path(__file__).parent
CASES = ("memory", "database")
"""Without a database, and with one: the products' files."""
MODULES = (
    "catalog", "currency", "carts", "cartstore", "recommendations", "shipping", "checkout",
    "payments", "email", "ads", "frontend",
)  # fmt: skip
"""The frontend last: it is asked for a page once the others listen."""
_ASKING = ("frontend", "carts", "recommendations", "checkout")
_PEERS = "benchmarks.boutique.peers"
_READY = "/v1/home?user_id=nobody&currency=EUR"
"""Answered 200 once what a page needs can be reached, and not only the process that is asked."""
SETTLED_S = 2.0
_PATIENT = ("--timeout-keep-alive", "600")
"""Longer than the callers keep a connection, so that none is closed as it is used again."""


@dataclass(frozen=True)
class Side:
    """The boutique, running: the port of its gateway or frontend, and the processes started."""

    name: str
    port: int
    roots: tuple[int, ...]

    @property
    def pids(self) -> list[int]:
        """All its processes now."""
        return [pid for root in self.roots for pid in descendants(root)]

    def cpu_s(self) -> dict[int, float]:
        """Processor time so far, by process."""
        return {pid: exact_cpu_s(pid) for pid in self.pids}

    def hold(self) -> None:
        """Let none of its processes do anything, not even what they do at rest."""
        for pid in self.pids:  # those that watch others first
            os.kill(pid, signal.SIGSTOP)

    def release(self) -> None:
        """Let them go on."""
        for pid in reversed(self.pids):
            os.kill(pid, signal.SIGCONT)


class Postgres:
    """The processor time of a server of this machine."""

    def __init__(self, url: str) -> None:
        self._root = asyncio.run(_postmaster(url))

    def cpu_s(self) -> float:
        """Spent so far, by all its processes and by those that have ended."""
        ended = Path(f"/proc/{self._root}/stat").read_text().rsplit(")", 1)[1].split()[13:15]
        ticks = sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")
        return ticks + sum(exact_cpu_s(pid) for pid in descendants(self._root))


async def _postmaster(url: str) -> int:
    connection = await asyncpg.connect(url)
    backend = connection.get_server_pid()
    stat = Path(f"/proc/{backend}/stat")
    parent = int(stat.read_text().rsplit(")", 1)[1].split()[1]) if stat.exists() else 0
    await connection.close()
    if not parent or "postgres" not in Path(f"/proc/{parent}/comm").read_text():
        raise RuntimeError(
            "PostgreSQL does not run on this machine, and what it spends cannot be counted. "
            "Leave TENFOLD_TEST_POSTGRES_URL empty: a server is then started."
        )
    return parent


def product_file(case: str) -> Path:
    """The file of the boutique without a database, or with one."""
    return FOLDER / f"{case}.toml"


@contextmanager
def _tenfold(name: str, topology: str, case: str, url: str) -> Iterator[Side]:
    port = free_port()
    # A path of a socket is short.
    with TemporaryDirectory(prefix="tf-") as data:
        command = [
            *TENFOLD, "run", "--product", str(product_file(case)),
            "--topology", topology, "--port", str(port), "--data", data,
        ]  # fmt: skip
        settings = {"TENFOLD_PROCESSES__HUNG_S": "3600"}  # it is held for longer than it may hang
        shared = read_product_file(product_file(case), topology, environ={}).topology.shared
        if shared:
            settings["TENFOLD_DATABASE_URL"] = url
        with fleet([(command, port, _READY)], settings=settings) as (server,):
            if shared:
                _await_settled(server.pid)
            yield Side(name, port, (server.pid,))


def _await_settled(supervisor: int) -> None:
    """Wait until the process that ends a start's migrations has come and gone."""
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < SETTLED_S:
        if any(name.startswith("prepare") for name in processes_of(supervisor)):
            quiet_since = time.monotonic()
        time.sleep(0.1)


@contextmanager
def _peers(
    name: str, case: str, url: str, command_of: Callable[[str, int], list[str]]
) -> Iterator[Side]:
    ports: dict[str, int] = {}
    while len(set(ports.values())) < len(MODULES):
        ports = {module: free_port() for module in MODULES}
    settings = {"BENCH_PLACES": json.dumps(ports), "BENCH_URL": ""}
    if case == "database":
        asyncio.run(make_tables(url))
        settings["BENCH_URL"] = url
    wanted = [
        (command_of(module, port), port, _READY if module == "frontend" else "")
        for module, port in ports.items()
    ]
    with fleet(wanted, settings=settings) as servers:
        yield Side(name, ports["frontend"], tuple(server.pid for server in servers))


def _fast(module: str, port: int) -> list[str]:
    file = "fast_asking" if module in _ASKING else "fast_keeping"
    return uvicorn_command(f"{_PEERS}.{file}:{module}", port, *_PATIENT)


def _grpc(module: str, port: int) -> list[str]:
    if module == "frontend":
        return uvicorn_command(f"{_PEERS}.grpc_frontend:app", port, *_PATIENT)
    return [sys.executable, "-m", f"{_PEERS}.grpc_serving", module]


def sides_of(case: str) -> dict[str, Callable[[str], AbstractContextManager[Side]]]:
    """Each side of a case, to be started on an empty database whose URL it is given."""
    tenfold = {"Tenfold together": "together", "Tenfold split": "split"}
    if case == "database":
        tenfold["Tenfold on SQLite"] = "sqlite"
    return {
        **{name: partial(_tenfold, name, topology, case) for name, topology in tenfold.items()},
        "FastAPI": partial(_peers, "FastAPI", case, command_of=_fast),
        "gRPC": partial(_peers, "gRPC", case, command_of=_grpc),
    }
