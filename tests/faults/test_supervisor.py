"""Processes of a supervisor die, cannot begin, or are left alone by it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tests.faults.callers import Callers
from tests.faults.supervised import APP, Supervised, alive

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
_SOON_S = 60.0


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervised]:
    with Supervised(tmp_path) as running:
        yield running.await_ready()


def await_gone(pids: list[int], within_s: float = _SOON_S) -> None:
    until = time.monotonic() + within_s
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < until, f"still alive: {left}"
        time.sleep(0.02)


def await_again(supervised: Supervised, name: str, before: int) -> int:
    """Return the new process of that name once it is ready."""
    until = time.monotonic() + _SOON_S
    while (pid := supervised.pids()[name]) in (0, before):
        assert time.monotonic() < until, supervised.said()
    return pid


def test_a_killed_process_is_started_again_and_others_serve_meanwhile(
    supervised: Supervised,
) -> None:
    for name in ("web-1", "worker-1", "web-2"):
        pid = supervised.pids()[name]
        os.kill(pid, signal.SIGKILL)
        supervised.await_said(f"{name} (process {pid}) was killed by SIGKILL. It is started again")
        assert supervised.get("/") == "1"
        await_again(supervised, name, pid)
    assert supervised.stop() == 0


def test_a_kill_under_load_fails_only_what_it_was_doing(supervised: Supervised, seed: int) -> None:
    callers = Callers(supervised.port, raw=20, threads=1, seed=seed)
    callers.start()
    try:
        pid = supervised.pids()["web-1"]
        os.kill(pid, signal.SIGKILL)
        await_again(supervised, "web-1", pid)
        failed = len(callers.failures)
        callers.await_answers(100)
        supervised.get("/")
    finally:
        callers.stop()
    # No more than had a connection to it, and none after it was gone.
    assert failed <= 22
    assert len(callers.failures) <= 22, callers.failures
    assert supervised.stop() == 0


def test_while_no_process_runs_connections_wait(supervised: Supervised) -> None:
    pids = supervised.pids()
    for name in ("web-1", "web-2"):
        os.kill(pids[name], signal.SIGKILL)
    assert supervised.get("/") == "1"
    assert supervised.stop() == 0


def test_a_process_that_always_ends_is_started_ever_later(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"web": 1}) as supervised:
        supervised.await_ready()
        supervised.deploy("import os\nos._exit(7)\n")
        os.kill(supervised.pids()["web-1"], signal.SIGKILL)
        not_again = "web-1 was not started again: The process web-1 ended with exit code 7"
        supervised.await_said(not_again)
        supervised.deploy(APP.format(version="2"))
        assert supervised.get("/") == "2"
        assert supervised.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_processes_end_with_their_supervisor_and_free_the_port(
    supervised: Supervised, number: signal.Signals
) -> None:
    pids = list(supervised.pids().values())
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(supervised.get, "/slow/1")
        time.sleep(0.3)  # so that it has begun
        supervised.stop(number)
        supervised.start()  # at once, while they still end
        assert slow.result(30).startswith("1 ")
    await_gone(pids)
    supervised.await_ready()
    assert supervised.get("/") == "1"
    assert supervised.stop() == 0


def test_a_process_that_does_not_listen_any_more_ends_with_its_supervisor(tmp_path: Path) -> None:
    app = APP.format(version="1") + "\nimport time\n"
    stuck = app.replace(
        'if path == "/crash":', 'if path == "/stuck": time.sleep(600)\n    if path == "/crash":'
    )
    with Supervised(tmp_path, {"web": 1, "workers": 0, "drain_s": 0.5}, app=stuck) as supervised:
        supervised.await_ready()
        pid = supervised.pids()["web-1"]
        wire = socket.create_connection(("127.0.0.1", supervised.port))
        wire.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        supervised.stop(signal.SIGKILL)
        await_gone([pid])
        wire.close()


def test_a_process_that_does_not_drain_is_killed(tmp_path: Path) -> None:
    app = APP.format(version="1") + "\nimport time\n"
    stuck = app.replace(
        'if path == "/crash":', 'if path == "/stuck": time.sleep(600)\n    if path == "/crash":'
    )
    with Supervised(tmp_path, {"web": 1, "workers": 0, "drain_s": 0.5}, app=stuck) as supervised:
        supervised.await_ready()
        wire = socket.create_connection(("127.0.0.1", supervised.port))
        wire.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert supervised.stop() == 0
        assert "did not end in time, and is killed" in supervised.said()
        wire.close()


def test_sigterm_answers_what_was_begun_and_no_more_is_taken(supervised: Supervised) -> None:
    with ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(supervised.get, "/slow/1.5") for _ in range(4)]
        time.sleep(0.3)  # so that they have begun
        supervised.send(signal.SIGTERM)
        supervised.send(signal.SIGTERM)  # the same wish, as from a terminal's group
        assert all(each.result(30).startswith("1 ") for each in slow)
    assert supervised.process.wait(_SOON_S) == 0
    with pytest.raises(OSError, match="refused"):
        supervised.get("/")


def test_a_second_signal_ends_everything_at_once(supervised: Supervised) -> None:
    pids = list(supervised.pids().values())
    wire = socket.create_connection(("127.0.0.1", supervised.port))
    wire.sendall(b"GET /slow/60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.3)  # so that it has begun
    began_s = time.monotonic()
    supervised.send(signal.SIGINT)
    time.sleep(1.3)  # the time after which it is another wish
    assert supervised.stop(signal.SIGINT) == 130
    assert time.monotonic() - began_s < supervised.settings["drain_s"]
    assert not any(alive(pid) for pid in pids)
    wire.close()


def test_what_cannot_begin_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    with Supervised(tmp_path, app="1 / 0\n") as supervised:
        assert supervised.process.wait(_SOON_S) == 2
        assert "it cannot be imported: division by zero" in supervised.said()
        assert "Traceback" not in supervised.said()
        supervised.deploy("raise OSError('no such luck')\n")
        supervised.start()
        assert supervised.process.wait(_SOON_S) == 1
        assert "It raised OSError: no such luck. The log has more." in supervised.said()
        supervised.deploy("import os\nos._exit(7)\n")
        supervised.start()
        assert supervised.process.wait(_SOON_S) == 1
        assert "ended with exit code 7 before it was ready" in supervised.said()


def test_a_process_that_is_never_ready_ends_the_start(tmp_path: Path) -> None:
    never = (
        "async def app(scope, receive, send):\n    import asyncio\n    await asyncio.sleep(600)\n"
    )
    with Supervised(tmp_path, {"start_timeout_s": 3.0}, app=never) as supervised:
        assert supervised.process.wait(_SOON_S) == 1
        assert "was not ready within 3 s and was ended" in supervised.said()


def test_a_port_in_use_starts_nothing(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        Supervised(tmp_path, {"port": other.getsockname()[1]}) as supervised,
    ):
        assert supervised.process.wait(_SOON_S) == 2
        assert "Another process listens on 127.0.0.1" in supervised.said()


def test_workers_alone_listen_nowhere(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"web": 0, "workers": 2}) as supervised:
        supervised.await_ready()
        assert set(supervised.pids()) == {"worker-1", "worker-2"}
        with pytest.raises(OSError, match="refused"):
            supervised.get("/")
        assert supervised.command("restart").returncode == 0
        assert supervised.stop() == 0


def test_a_stop_during_the_start_ends_everything(tmp_path: Path) -> None:
    never = "import time\nprint('it never begins')\ntime.sleep(600)\n"
    with Supervised(tmp_path, app=never) as supervised:
        supervised.await_said("it never begins")
        supervised.send(signal.SIGTERM)
        assert supervised.process.wait(_SOON_S) == 0
        with Supervised(tmp_path) as again:
            again.await_ready()
            assert again.stop() == 0


def test_the_log_has_whole_lines_with_the_name_of_their_process(supervised: Supervised) -> None:
    for _ in range(4):
        pid = supervised.get("/print").split()[1]
    names = {pid: name for name, pid in supervised.pids().items()}
    name = names[int(pid)]
    supervised.await_said(f"{name} | said by {pid}\n")
    supervised.await_said(f"{name} | complained\n")
    supervised.command("restart")
    assert supervised.stop() == 0
    own = [line for line in supervised.said().splitlines() if line.startswith("{")]
    assert own
    assert all(msgspec.json.decode(line)["process"] for line in own)


def test_who_asks_where_nothing_is_supervised_is_told(tmp_path: Path) -> None:
    with Supervised(tmp_path) as supervised:
        supervised.await_ready()
        assert supervised.stop() == 0
        done = supervised.command("restart")
        assert done.returncode == 3
        assert "No product runs on the data" in done.stderr
