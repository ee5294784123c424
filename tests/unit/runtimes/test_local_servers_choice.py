"""What is decided before a server is started: whose URL counts, which program, which account."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.local_servers import account, cluster
from tenfold.runtimes.local_servers.account import Account, closed_folder
from tenfold.runtimes.local_servers.environment import decide_given
from tenfold.runtimes.local_servers.errors import DataVersionError, ServersMissingError
from tenfold.runtimes.local_servers.probes import free_port, port_is_free, probe_postgres
from tenfold.runtimes.local_servers.programs import Program, find_postgres, find_valkey
from tenfold.runtimes.local_servers.start import running_servers, start_local_servers
from tenfold.runtimes.local_servers.wanted import ServerWants

OWN = "postgresql://own:secret@db.example:5433/shop"


def test_tenfolds_own_variable_goes_before_the_usual_one() -> None:
    given = decide_given(
        {
            "DATABASE_URL": "postgres://usual@other.example/x",
            "TENFOLD_DATABASE_URL": OWN,
            "TENFOLD_REPLICA_URLS": "postgresql://r1.example/shop, postgres://r2.example/shop",
            "REDIS_URL": "redis://cache.example:6379/0",
        }
    )
    assert given.database_url == OWN
    assert given.replica_urls == ("postgresql://r1.example/shop", "postgresql://r2.example/shop")
    assert given.cache_url == "redis://cache.example:6379/0"


def test_what_is_said_names_place_and_variable_but_no_password() -> None:
    said = " ".join(decide_given({"TENFOLD_DATABASE_URL": OWN}).said)
    assert "db.example:5433/shop" in said
    assert "TENFOLD_DATABASE_URL" in said
    assert "secret" not in said


def test_a_usual_variable_of_another_system_is_passed_over() -> None:
    given = decide_given({"DATABASE_URL": "mysql://x@y/z", "REDIS_URL": "http://y"})
    assert (given.database_url, given.cache_url) == (None, None)


def test_valkeys_scheme_is_spoken_as_the_driver_knows_it() -> None:
    assert decide_given({"VALKEY_URL": "valkeys://c.example/1"}).cache_url == "rediss://c.example/1"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("TENFOLD_DATABASE_URL", "mysql://x@y/z"),
        ("TENFOLD_DATABASE_URL", "db.example"),
        ("TENFOLD_CACHE_URL", "postgresql://x/y"),
        ("TENFOLD_REPLICA_URLS", "redis://x"),
    ],
)
def test_a_wrong_url_in_tenfolds_own_variable_is_told_with_its_name(name: str, url: str) -> None:
    with pytest.raises(UserMistakeError, match=f"{name}: found .* expected"):
        decide_given({"TENFOLD_DATABASE_URL": OWN, name: url})


def test_replicas_without_a_primary_are_a_mistake() -> None:
    with pytest.raises(UserMistakeError, match="TENFOLD_DATABASE_URL"):
        decide_given({"TENFOLD_REPLICA_URLS": "postgresql://r.example/shop"})


def test_servers_that_the_environment_names_are_taken_and_nothing_is_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environ = {"TENFOLD_DATABASE_URL": OWN, "TENFOLD_CACHE_URL": "redis://c.example"}
    with start_local_servers(data, ServerWants(replicas=1), environ) as servers:
        assert servers.urls.database_url == OWN
        assert servers.urls.replica_urls == ()
        assert servers.urls.cache_url == "redis://c.example"
        assert len(servers.urls.said) == 2
    assert not data.exists()
    found = running_servers(data, environ)
    assert found is not None
    assert found.database_url == OWN
    assert running_servers(data) is None


def test_programs_are_looked_for_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    for name in ("initdb", "postgres", "pg_basebackup", "valkey-server"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 17.2 v=8.1.3'\n")
        program.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    first = find_postgres(environ, ("path",))[0]
    assert (first.path, first.version, first.major) == (tmp_path.resolve(), "17.2", 17)
    assert "PATH" in first.told
    assert find_postgres(environ, ()) == []
    assert find_valkey(environ, ()) is None


def test_a_postgres_that_is_too_old_or_lacks_programs_is_passed_over(tmp_path: Path) -> None:
    for name in ("initdb", "postgres"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 12.1'\n")
        program.chmod(0o755)
    found = [each.path for each in find_postgres({"PATH": str(tmp_path)}, ("path",))]
    (tmp_path / "pg_basebackup").symlink_to(tmp_path / "initdb")
    found += [each.path for each in find_postgres({"PATH": str(tmp_path)}, ("path",))]
    assert tmp_path.resolve() not in found


def test_a_folder_of_the_path_that_cannot_be_looked_into_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {"PATH": f"{tmp_path / 'file'}:{tmp_path / 'nowhere'}:{tmp_path / ('long' * 100)}"}
    assert tmp_path.resolve() not in {each.path for each in find_postgres(environ, ("path",))}
    assert find_valkey(environ, ("path",)) is None


def _program(major: int) -> Program:
    return Program(path=Path("/nowhere"), version=f"{major}.1", major=major, source="path")


def test_data_gets_the_program_of_its_version(tmp_path: Path) -> None:
    assert cluster.choose_program(tmp_path, [_program(18), _program(15)], None).major == 18
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert cluster.choose_program(tmp_path, [_program(18), _program(15)], None).major == 15


def test_data_of_another_version_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("13\n")
    with pytest.raises(DataVersionError, match=r"made by PostgreSQL 13.*18\.1") as raised:
        cluster.choose_program(tmp_path, [_program(18)], None)
    assert raised.value.code == "servers.data_version"


def test_without_a_postgres_it_is_said_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ServersMissingError, match="apt-get install postgresql") as raised:
        cluster.choose_program(tmp_path, [], None)
    assert raised.value.code == "servers.missing"


def test_the_topmost_folder_that_an_account_cannot_pass_is_found(
    own_servers_folder: Callable[[], Path],
) -> None:
    stranger = Account(name="stranger", uid=60_001, gid=60_001)
    owner = Account(name="owner", uid=os.getuid(), gid=os.getgid())
    top = own_servers_folder()
    inner = top / "inner"
    inner.mkdir(mode=0o700)
    data = inner / "data"
    assert closed_folder(data, owner) is None
    assert closed_folder(data, stranger) == top
    top.chmod(0o711)
    assert closed_folder(data, stranger) == inner
    inner.chmod(0o711)
    assert closed_folder(data, stranger) is None


def test_a_port_that_is_taken_is_replaced() -> None:
    port = free_port()
    assert port_is_free(port)
    assert free_port(port) == port
    assert probe_postgres(port) == "silent"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        assert not port_is_free(port)
        assert free_port(port) != port


def test_whoever_is_not_root_runs_servers_as_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account.os, "geteuid", lambda: 1000)
    assert account.account_for(tmp_path) is None
