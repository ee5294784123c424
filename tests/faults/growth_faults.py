"""What is done to a fleet and to its servers while they are at work."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import asyncpg

from tests.faults.growth_child import SHORT_LEASE_S
from tests.faults.growth_store import GrowthStore
from tests.servers import OwnPostgres, OwnValkey

__all__ = ["FAULTS", "Faults", "decide_faults"]

FAULTS = {
    "web killed": 50,
    "worker killed": 40,
    "leader killed": 20,
    "postgres killed": 30,
    "postgres restarted": 12,
    "worker paused": 12,
    "sessions ended": 24,
    "valkey killed": 14,
    "valkey paused": 6,
}
"""How often each is done in a campaign of full size."""
_LEADER = """
SELECT client_port FROM pg_stat_activity AS a
WHERE application_name = 'tenfold leader' AND EXISTS (
    SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.granted)
"""
_OTHERS = """
SELECT pid FROM pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND datname = current_database()
"""


def decide_faults(rng: Random, size: str) -> list[str]:
    """All faults of a campaign, in their order."""
    if size == "small":
        kinds = [*FAULTS, "web killed", "worker killed", "sessions ended"]
    else:
        kinds = [kind for kind, count in FAULTS.items() for _ in range(count)]
    rng.shuffle(kinds)
    return kinds


class Faults:
    """Strikes one fleet. Each fault is over when its method returns, though not its effects."""

    def __init__(
        self, store: GrowthStore, postgres: OwnPostgres, valkey: OwnValkey, rng: Random
    ) -> None:
        self._store = store
        self._postgres = postgres
        self._valkey = valkey
        self._rng = rng
        self.woken_late = 0
        self._by_name: dict[str, Callable[[], None]] = {
            "web killed": lambda: self._kill("web"),
            "worker killed": lambda: self._kill("worker"),
            "leader killed": self._kill_leader,
            "postgres killed": lambda: self._restart_postgres(self._postgres.kill),
            "postgres restarted": lambda: self._restart_postgres(self._postgres.stop),
            "worker paused": self._pause_worker,
            "sessions ended": self._end_sessions,
            "valkey killed": self._restart_valkey,
            "valkey paused": self._pause_valkey,
        }

    def strike(self, name: str) -> None:
        """Do it."""
        self._by_name[name]()

    def _one_of(self, role: str) -> int:
        """The process id of one, which must be there: a fault that strikes nobody is none."""
        until = time.monotonic() + 30
        while not (pids := list(self._store.pids(role).values())):
            assert time.monotonic() < until, self._store.tail()
            time.sleep(0.05)
        return self._rng.choice(pids)

    def _kill(self, role: str) -> None:
        os.kill(self._one_of(role), signal.SIGKILL)

    def _kill_leader(self) -> None:
        until = time.monotonic() + 30
        while True:
            port = asyncio.run(_value(self._postgres.url, _LEADER))
            pid = port and _owner_of(port, self._store.pids("worker").values())
            if pid:
                os.kill(pid, signal.SIGKILL)
                return
            assert time.monotonic() < until, f"nobody leads:\n{self._store.tail()}"
            time.sleep(0.1)

    def _restart_postgres(self, end: Callable[[], None]) -> None:
        end()
        self._postgres.start()

    def _pause_worker(self) -> None:
        """Stop a worker until its leases are others', then let it go on."""
        pid = self._one_of("worker")
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(SHORT_LEASE_S * 1.5)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                self.woken_late += 1

    def _end_sessions(self) -> None:
        asyncio.run(_end_sessions(self._postgres.url, self._rng))

    def _restart_valkey(self) -> None:
        self._valkey.kill()
        self._valkey.start()

    def _pause_valkey(self) -> None:
        self._valkey.pause()
        try:
            time.sleep(1.5)
        finally:
            self._valkey.resume()


async def _value(url: str, statement: str) -> int | None:
    connection = await asyncpg.connect(url)
    try:
        found: int | None = await connection.fetchval(statement)
        return found
    finally:
        await connection.close()


async def _end_sessions(url: str, rng: Random) -> None:
    """End a third of all sessions, whatever they are just doing."""
    connection = await asyncpg.connect(url)
    try:
        pids = [row[0] for row in await connection.fetch(_OTHERS)]
        chosen = rng.sample(pids, (len(pids) + 2) // 3)
        await connection.execute(
            "SELECT pg_terminate_backend(p) FROM unnest($1::int[]) AS p", chosen
        )
    finally:
        await connection.close()


def _owner_of(port: int, pids: object) -> int | None:
    """Which process has the socket that is bound to a port of this machine."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if int(parts[1].rpartition(":")[2], 16) == port:
            inodes.add(f"socket:[{parts[9]}]")
    for pid in pids:  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            for fd in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    if os.readlink(fd) in inodes:
                        return int(pid)
    return None
