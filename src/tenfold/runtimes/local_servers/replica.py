"""A read replica beside a local primary: made from it, started, and seen to follow it."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.cluster import USER, Cluster, Note, major_of, stop
from tenfold.runtimes.local_servers.errors import ServerStartError
from tenfold.runtimes.local_servers.launching import Launch, run_program

__all__ = ["Leader", "can_follow", "follows", "make_replica", "query", "start_replica"]

_LOST = (
    "requested WAL segment",
    "can no longer",
    "has been invalidated",
    "does not exist",
    "ahead of the WAL",
    "identifier differs",
    "not in this server's history",
)
"""What a replica writes when it will never follow again, however long one waits."""
_IDENTIFIER_BYTES = 8
_FOLLOW_S = 20.0


def query(url: str, sql: str, *arguments: Any, timeout_s: float = 10.0) -> Sequence[Sequence[Any]]:
    """Ask a server once, from any thread, whether or not an event loop runs in it."""
    try:
        import asyncpg
    except ImportError as error:
        raise UserMistakeError(
            "Local PostgreSQL servers need its driver. Nothing was started. Install it with "
            "`pip install 'tenfold[postgres]'`."
        ) from error

    async def ask() -> Sequence[Sequence[Any]]:
        connection = await asyncpg.connect(url, timeout=timeout_s, ssl=False)
        try:
            rows: Sequence[Sequence[Any]] = await connection.fetch(
                sql, *arguments, timeout=timeout_s
            )
            return rows
        finally:
            await connection.close(timeout=timeout_s)

    answers: list[Sequence[Sequence[Any]]] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(asyncio.run(ask()))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="tenfold-query")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return answers[0]


def can_follow(replica: Cluster, primary: Cluster, primary_url: str) -> bool:
    """Whether a replica's data is this primary's, and the primary still keeps what it lacks."""
    if major_of(replica.place) != replica.program.major or _identity(replica) != _identity(primary):
        return False
    if not (replica.place / "standby.signal").exists():
        return False
    rows = query(
        primary_url,
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1",
        replica.slot,
    )
    return bool(rows) and rows[0][0] not in ("lost", "unreserved")


def _identity(cluster: Cluster) -> bytes:
    """The system identifier: each `initdb` makes a new one, and it stands first in pg_control."""
    try:
        with (cluster.place / "global" / "pg_control").open("rb") as control:
            return control.read(_IDENTIFIER_BYTES)
    except OSError:
        return b""


def make_replica(replica: Cluster, primary_url: str, primary_port: int, deadline: float) -> None:
    """Copy the primary's data; what had been there as this replica's is replaced.

    The primary keeps its log for the replica in a slot, to the bound of
    `max_slot_wal_keep_size`; a replica that was away for longer is made anew.
    """
    making = replica.place.with_name(f"{replica.place.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    query(
        primary_url,
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots "
        "WHERE slot_name = $1 AND NOT active",
        replica.slot,
    )
    query(
        primary_url,
        "SELECT pg_create_physical_replication_slot($1, true) WHERE NOT EXISTS "
        "(SELECT FROM pg_replication_slots WHERE slot_name = $1)",
        replica.slot,
    )
    command = [replica.tool("pg_basebackup"), "-h", "127.0.0.1", "-p", str(primary_port)]
    command += ["-U", USER, "-D", str(making), "-X", "stream", "-S", replica.slot, "-c", "fast"]
    command += ["--no-password", *([] if replica.durable else ["--no-sync"])]
    secrets = {"PGPASSWORD": replica.password} if replica.password else None
    run_program(command, deadline=deadline, account=replica.account, secrets=secrets)
    # Not by `-R`: that would fix the primary's port, which may be another at the next start.
    (making / "standby.signal").touch(mode=0o600)
    if replica.account is not None:
        replica.account.give(making / "standby.signal")
    shutil.rmtree(replica.place, ignore_errors=True)
    making.replace(replica.place)


def follows(replica: Cluster, url: str, log: Launch | None, deadline: float) -> bool:
    """Wait until a running replica receives from its primary; False when it never will."""
    end = min(deadline, time.monotonic() + _FOLLOW_S)
    while True:
        rows = query(url, "SELECT status FROM pg_stat_wal_receiver")
        if rows and rows[0][0] == "streaming":
            return True
        wrote = log.wrote if log is not None else ""
        if time.monotonic() > end or any(words in wrote for words in _LOST):
            return False
        time.sleep(0.05)


class Leader(Struct):
    """The primary that a replica follows, and where it answers."""

    cluster: Cluster
    url: str
    port: int


def start_replica(
    replica: Cluster, leader: Leader, remembered_port: int, deadline: float, note: Note
) -> tuple[Launch, int]:
    """Start a replica on its data, or make it anew where it cannot follow.

    Raises: ServerStartError.
    """
    fresh = not can_follow(replica, leader.cluster, leader.url)
    while True:
        if fresh:
            make_replica(replica, leader.url, leader.port, deadline)
        started, port = replica.start(remembered_port, deadline, note)
        try:
            if follows(replica, replica.url(port), started, deadline):
                return started, port
        except BaseException:
            stop(started)
            raise
        wrote = started.wrote
        keeper.stop_processes("postgres", [(started.pid, started.born)])
        if fresh:
            raise ServerStartError(f"{replica.name} does not follow its primary.", log=wrote)
        fresh = True
