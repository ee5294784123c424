"""`tenfold run`, in a process of its own."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest


def get(url: str) -> tuple[int, bytes]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.status, answer.read()


def post(url: str, body: Any) -> bytes:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        data: bytes = answer.read()
        return data


def talk(port: int, *pieces: bytes) -> bytes:
    """Send pieces over a raw connection, and read until the server closes it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for piece in pieces:
            connection.sendall(piece)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


def test_it_says_what_to_open_and_who_may_come(served: Any, pad: Any) -> None:
    assert f"  data     {pad.data}" in served.greeting
    assert "Callers are not authenticated" in served.greeting
    assert get(served.url + "/") == (200, b"pad")
    assert get(served.url + "/_tenfold/ready")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_and_exits_0(served: Any, number: int) -> None:
    post(served.url + "/v1/notes", {"text": "one"})
    assert served.stop(number) == 0


def test_a_signal_sent_twice_at_once_is_one_wish(served: Any) -> None:
    # As when a terminal's whole group is told, and make tells its children again.
    post(served.url + "/v1/notes", {"text": "one"})
    for _ in range(3):
        served.process.send_signal(signal.SIGTERM)
    assert served.stop() == 0


def test_a_later_signal_ends_a_drain_at_once(served: Any) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        # A mount that never ends its answer would hold the drain to its bound.
        connection.sendall(b"GET /for-ever HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(1) == b"H"
        served.process.send_signal(signal.SIGTERM)
        code = None
        while code is None:
            try:
                code = served.process.wait(0.3)
            except subprocess.TimeoutExpired:
                served.process.send_signal(signal.SIGTERM)
        served.process.communicate()
        assert code == 130


def test_a_slow_client_does_not_hold_up_the_end(served: Any) -> None:
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert served.stop() == 0


def test_it_seeds_once(pad: Any) -> None:
    for _ in range(2):
        started = pad.start()
        assert pad.json("queue", "counts") is not None
        assert started.stop() == 0
    assert (pad.data / "seeded").exists()
    assert pad.json("projections", "list")[0]["behind"] == 0
    started = pad.start()
    assert get(started.url + "/v1/notes")[1] == b"1"
    started.stop()


def test_a_second_start_is_told_who_holds_the_data(served: Any, pad: Any) -> None:
    done = pad("run")
    assert done.returncode == 2
    assert f"process {served.process.pid} (`tenfold run`, serving" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_told(served: Any, pad: Any, tmp_path: Path) -> None:
    """Expected: PortInUseError."""
    done = pad("run", "--port", str(served.port), "--data", str(tmp_path / "other"))
    assert done.returncode == 2
    assert f"listens on 127.0.0.1:{served.port}" in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_it_refuses_to_listen_where_others_can_connect(pad: Any, host: str) -> None:
    done = pad("run", "--host", host)
    assert done.returncode == 2
    assert "option --host: the host is" in done.stderr
    assert "not authenticated" in done.stderr
    assert not pad.data.exists()


def test_a_mount_that_does_not_start_stops_the_product(pad: Any) -> None:
    """Expected: MountNotStartedError."""
    pad.change(
        '        await send({"type": "http.response.start"',
        '        if scope["type"] == "lifespan":\n'
        "            await receive()\n"
        '            await send({"type": "lifespan.startup.failed", "message": "no"})\n'
        "            return\n"
        '        await send({"type": "http.response.start"',
        "padkit/module.py",
    )
    done = pad("run")
    assert done.returncode == 1
    assert "mounted application did not start" in done.stderr


def test_a_head_without_an_end_is_refused(served: Any) -> None:
    answer = talk(served.port, b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 20_000)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"http.headers_too_large" in answer


def test_a_head_that_takes_too_long_is_refused(served: Any) -> None:
    answer = talk(served.port, b"GET / HTTP/1.1\r\nhost: localhost\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"http.too_slow" in answer


def test_a_connection_that_asks_nothing_is_closed(served: Any) -> None:
    assert talk(served.port) == b""


def test_noise_is_answered_and_the_process_stays(served: Any) -> None:
    answer = talk(served.port, bytes(range(256)) * 4)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert get(served.url + "/_tenfold/ready")[0] == 200


def test_debug_shows_the_traceback_of_the_products_own_mistake(pad: Any) -> None:
    pad.change("METADATA = metadata()", "METADATA = 1 / 0", "padkit/module.py")
    told = pad("run")
    assert told.returncode == 2
    assert "ZeroDivisionError" in told.stderr
    assert "Traceback" not in told.stderr
    assert "Traceback" in pad("run", "--debug").stderr


def test_in_the_topology_twice_it_ends_with_what_is_not_safe_to_repeat(pad: Any) -> None:
    pad.change(
        'raise ValueError(f"{text} cannot be done")',
        'await self.others.note(f"{text}, {new_id()}")',
        "padkit/module.py",
    )
    pad.change("    seen: Seen\n", "    seen: Seen\n    others: Notes\n", "padkit/module.py")
    pad.change("Projection, job, publish", "Projection, job, new_id, publish", "padkit/module.py")
    started = pad.start("--topology", "twice")
    assert "for tests: all is delivered more than once" in started.greeting
    post(started.url + "/v1/notes", {"text": "bad"})
    started.process.send_signal(signal.SIGTERM)
    _, told = started.process.communicate(timeout=30)
    assert started.process.returncode == 1
    assert "One thing is not safe to repeat." in told
    assert "1. notes.fail (job) is not safe to repeat: run again, it called notes.note" in told
