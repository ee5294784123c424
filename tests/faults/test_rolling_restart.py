"""Processes are replaced under load, and no caller notices."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.callers import Callers
from tests.faults.supervised import APP, Supervised

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path) as running:
        yield running.await_ready()


def test_rolling_restarts_under_load_fail_no_request(
    supervised: Supervised, size: str, seed: int
) -> None:
    before = supervised.pids()
    callers = Callers(supervised.port, raw=200 if size == "full" else 40, seed=seed)
    callers.start()
    try:
        for _ in range(10 if size == "full" else 3):
            done = supervised.command("restart")
            assert done.returncode == 0, done.stderr
            assert "All processes are new." in done.stdout
    finally:
        callers.stop()
    assert callers.failures == [], f"--seed {seed}"
    after = supervised.pids()
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())
    assert supervised.stop() == 0, supervised.said()
    assert "Traceback" not in supervised.said()


def test_a_deploy_under_load_runs_the_new_code_and_fails_no_request(
    supervised: Supervised, seed: int
) -> None:
    callers = Callers(supervised.port, seed=seed)
    callers.start()
    try:
        for version in ("2", "3"):
            supervised.deploy(APP.format(version=version))
            done = supervised.command("restart")
            assert done.returncode == 0, done.stderr
            assert supervised.get("/") == version
            callers.await_answers(50)
    finally:
        callers.stop()
    assert callers.failures == [], f"--seed {seed}"
    assert set(callers.answers) == {"1", "2", "3"}
    assert supervised.stop() == 0


def test_sighup_replaces_all_processes(supervised: Supervised) -> None:
    before = supervised.pids()
    supervised.send(signal.SIGHUP)
    for name in before:
        supervised.await_said(f"{name} is new.")
    assert not set(before.values()) & set(supervised.pids().values())
    assert supervised.stop() == 0


def test_a_version_that_cannot_begin_replaces_nothing(supervised: Supervised) -> None:
    before = supervised.pids()
    supervised.deploy("1 / 0\n")
    done = supervised.command("restart")
    assert done.returncode == 2
    assert "it cannot be imported: division by zero" in done.stderr
    assert supervised.pids() == before
    assert supervised.get("/") == "1"
    supervised.deploy("raise RuntimeError('not today')\n")
    done = supervised.command("restart")
    assert done.returncode == 1
    assert "It raised RuntimeError: not today." in done.stderr
    assert supervised.pids() == before
    assert supervised.stop() == 0


def test_a_restart_takes_up_another_number_of_processes(supervised: Supervised) -> None:
    supervised.write(web=3, workers=2)
    assert supervised.command("restart").returncode == 0
    assert set(supervised.pids()) == {"web-1", "web-2", "web-3", "worker-1", "worker-2"}
    supervised.write(web=1, workers=1)
    assert supervised.command("restart").returncode == 0
    assert set(supervised.pids()) == {"web-1", "worker-1"}
    assert supervised.stop() == 0


def test_what_a_restart_cannot_change_is_refused(supervised: Supervised) -> None:
    before = supervised.pids()
    supervised.write(port=1)
    done = supervised.command("restart")
    assert done.returncode == 2
    assert "http.port differs from what the product was started with" in done.stderr
    assert supervised.pids() == before


def test_a_stream_ends_and_a_slow_request_is_answered(supervised: Supervised) -> None:
    wires = [socket.create_connection(("127.0.0.1", supervised.port), 60) for _ in range(8)]
    for wire in wires[:4]:
        wire.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 OK" in wire.recv(65536)
    for wire in wires[4:]:
        wire.sendall(b"GET /slow/1.5 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert supervised.command("restart").returncode == 0
    for wire in wires:
        with wire, wire.makefile("rb") as stream:
            assert b"1 " in stream.read()  # to the end of the connection
    assert supervised.stop() == 0
    assert "interrupted" not in supervised.said()
