"""The lock on a data directory."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.lock import DataInUseError, DataLock, holder_of

HOLD = """
import sys
from pathlib import Path
from tenfold.runtimes.lock import DataLock
lock = DataLock.acquire(Path(sys.argv[1]), "a test")
lock.say("serving")
Path(lock.holder.control).touch()
print("held", flush=True)
sys.stdin.read()
"""


def hold(directory: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    with process:
        process.kill()


def test_a_second_process_is_told_who_holds_the_data(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(DataInUseError, match=rf"process {process.pid} \(`a test`, serving"):
            DataLock.acquire(tmp_path, "another")
        holder = holder_of(tmp_path)
        assert holder is not None
        assert (holder.pid, holder.state) == (process.pid, "serving")
    finally:
        end(process)


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    end(process)
    assert holder_of(tmp_path) is None
    lock = DataLock.acquire(tmp_path, "the next")
    assert not Path(lock.holder.control).exists()
    lock.release()


def test_a_released_directory_is_free(tmp_path: Path) -> None:
    lock = DataLock.acquire(tmp_path, "one")
    lock.release()
    assert holder_of(tmp_path) is None
    DataLock.acquire(tmp_path, "two").release()


def test_looking_for_a_holder_never_takes_the_directory(tmp_path: Path) -> None:
    assert holder_of(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_a_long_path_gets_a_short_socket_of_its_own(tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120)
    lock = DataLock.acquire(long, "one")
    control = Path(lock.holder.control)
    assert len(os.fsencode(control)) <= 100
    assert control.parent.stat().st_mode & 0o077 == 0
    lock.release()
    assert not control.parent.exists()


def test_a_short_path_keeps_its_socket_with_the_data() -> None:
    with tempfile.TemporaryDirectory(prefix="tf") as folder:
        lock = DataLock.acquire(Path(folder), "one")
        assert Path(lock.holder.control).parent == Path(folder)
        lock.release()


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserMistakeError, match="cannot be used"):
        DataLock.acquire(tmp_path / "file" / "data", "one")


@pytest.mark.parametrize("name", ["live", "tenfold-live", "d" * 120])
def test_a_copied_directory_leaves_the_socket_of_the_first_alone(tmp_path: Path, name: str) -> None:
    live, copy = tmp_path / name, tmp_path / "copy"
    lock = DataLock.acquire(live, "the first")
    control = Path(lock.holder.control)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        short = Path(tempfile.mkdtemp()) / "s"
        short.symlink_to(control.parent)  # a path that a socket's address has room for
        listener.bind(str(short / control.name))
        listener.listen()
        copy.mkdir()
        (copy / "lock").write_bytes((live / "lock").read_bytes())
        DataLock.acquire(copy, "of the copy").release()
        assert control.is_socket()
    lock.release()
    assert not control.exists()


def test_a_copy_of_a_directory_nobody_runs_keeps_its_data(tmp_path: Path) -> None:
    first, copy = tmp_path / "tenfold-first", tmp_path / "copy"
    first.mkdir()
    end(hold(first))
    (first / "orders.db").touch()
    copy.mkdir()
    (copy / "lock").write_bytes((first / "lock").read_bytes())
    DataLock.acquire(copy, "of the copy").release()
    assert (first / "orders.db").exists()


def test_what_is_made_in_a_directory_that_was_there_is_its_users_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        lock = DataLock.acquire(tmp_path, "one")
        sqlite3.connect(tmp_path / "orders.db").execute("CREATE TABLE orders (id)").close()
        lock.release()
        (tmp_path / "later").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "orders.db").stat().st_mode & 0o077 == 0
    assert (tmp_path / "later").stat().st_mode & 0o077 == 0o044
