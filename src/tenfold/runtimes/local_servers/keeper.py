"""Stops a data directory's servers once no process uses them: also after a `kill -9`.

Who uses the servers holds a shared lock on `servers.users`; the kernel drops it
with the process, however that ends. The keeper is a small process of its own
that waits for the lock alone and then stops what is left. A supervisor that was
killed therefore leaves servers for an instant only, and a new one that comes in
that instant takes them over.

This file needs the standard library only and is started by its path, so that the
keeper costs little; the rest of the package takes its knowledge from here.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "KEEPER",
    "MUTEX",
    "STATE",
    "USERS",
    "born",
    "is_alive",
    "open_lock",
    "stop_all",
    "stop_processes",
    "try_exclusive",
]

MUTEX = "servers.lock"
"""Held while servers are started or stopped."""
KEEPER = "servers.keeper"
"""Held by the one process that keeps a directory's servers."""
USERS = "servers.users"
"""Held shared by each process that uses the servers."""
STATE = "servers.json"
"""Which servers there are, with ports and process ids."""

_STAGES = {
    "postgres": ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)),
    "valkey": ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)),
    "nats": ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)),
}
_START_TIME = 19
"""The place of a process's start time in /proc/PID/stat, counted after the program's name."""


def born(pid: int) -> str:
    """When a process began, to tell it from a later one with its number; empty if it has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _born_by_ps(pid)
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[_START_TIME]


def _born_by_ps(pid: int) -> str:
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split(
        None, 1
    )
    return said[1].strip() if len(said) == 2 and not said[0].startswith("Z") else ""


def is_alive(pid: int, since: str) -> bool:
    """Whether the process that began `since` still runs."""
    return pid > 0 and bool(since) and born(pid) == since


def open_lock(path: Path) -> int:
    """Open a lock file, made where there is none; processes that are started do not inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def try_exclusive(fd: int) -> bool:
    """Take a lock alone if nobody else holds it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def stop_processes(kind: str, processes: Sequence[tuple[int, str]]) -> None:
    """Stop servers of one kind together: politely, then less so, each stage with a bound."""
    for number, patience_s in _STAGES[kind]:
        left = [pid for pid, since in processes if is_alive(pid, since)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
                os.kill(pid, signal.SIGCONT)  # one that a person paused would not hear it
        ended = _until(lambda: not any(is_alive(*each) for each in processes), patience_s)
        if not left or ended:
            return


def _until(ready: Callable[[], bool], bound_s: float) -> bool:
    end = time.monotonic() + bound_s
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def stop_all(directory: Path) -> None:
    """Stop each server that this directory's file names as started by Tenfold.

    The ports stay in the file, so that a later start has the same URLs. Servers
    for one test run go with their data.
    """
    try:
        state: dict[str, Any] = json.loads((directory / STATE).read_bytes())
    except (OSError, ValueError):
        return
    servers = [each for each in state["servers"] if each["ours"]]
    for kind in _STAGES:
        stop_processes(kind, [(s["pid"], s["born"]) for s in servers if s["kind"] == kind])
    if state["discard"]:
        for each in servers:  # it may lie elsewhere than in the data directory
            shutil.rmtree(each["place"], ignore_errors=True)
        shutil.rmtree(directory, ignore_errors=True)
        return
    if not any(each["pid"] for each in state["servers"]):
        return  # another one did it
    for each in state["servers"]:
        each["pid"], each["born"] = 0, ""
    new = directory / f"{STATE}.new"
    new.touch(mode=0o600)
    new.write_text(json.dumps(state))
    new.replace(directory / STATE)


def _keep(directory: Path) -> None:
    users, mutex = open_lock(directory / USERS), open_lock(directory / MUTEX)
    alone = open_lock(directory / KEEPER)
    if not try_exclusive(alone):
        return  # another one keeps them
    while True:
        fcntl.flock(users, fcntl.LOCK_EX)  # waits until nobody holds it shared
        fcntl.flock(users, fcntl.LOCK_UN)
        fcntl.flock(mutex, fcntl.LOCK_EX)
        # Whoever starts holds the mutex while it becomes a user, so from here nobody comes between.
        if try_exclusive(users):
            # While the mutex is held still: the next user's keeper must find its place free.
            fcntl.flock(alone, fcntl.LOCK_UN)
            break
        fcntl.flock(mutex, fcntl.LOCK_UN)
    with contextlib.suppress(FileNotFoundError):
        # A directory that was removed and made anew has other locks and another keeper.
        if os.fstat(users).st_ino == (directory / USERS).stat().st_ino:
            stop_all(directory)


def _main() -> None:
    if os.fork():  # nobody's child: nobody has to wait for its end
        os._exit(0)
    os.chdir("/")
    _keep(Path(sys.argv[1]))


if __name__ == "__main__":
    _main()
