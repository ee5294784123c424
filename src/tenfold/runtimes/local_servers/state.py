"""A data directory's servers as its file tells them, and the locks of those who use them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.errors import ServersBusyError

__all__ = ["Server", "State", "Users", "read_state", "write_state"]


class Server(Struct):
    """One server of a data directory. `pid` is 0 while it does not run.

    `ours` says that Tenfold started it, and so may stop it. `place` is its data.
    """

    name: str
    kind: Literal["postgres", "valkey", "nats"]
    place: str
    port: int = 0
    url: str = ""
    said: str = ""
    ours: bool = True
    pid: int = 0
    born: str = ""

    @property
    def alive(self) -> bool:
        """Whether its process runs; not whether it answers."""
        return keeper.is_alive(self.pid, self.born)


class State(Struct):
    """What `servers.json` holds: readable by its owner alone, for the URLs have passwords in."""

    servers: tuple[Server, ...] = ()
    discard: bool = False

    def find(self, name: str) -> Server | None:
        """The server of this name, running or not."""
        return next((each for each in self.servers if each.name == name), None)

    def with_server(self, server: Server) -> State:
        """The same with one server added or replaced."""
        others = tuple(each for each in self.servers if each.name != server.name)
        return State(servers=(*others, server), discard=self.discard)


def read_state(data_dir: Path) -> State:
    """What the file says; an empty state where there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode((data_dir / keeper.STATE).read_bytes(), type=State)
    except (OSError, msgspec.DecodeError):
        return State()


def write_state(data_dir: Path, state: State) -> None:
    """Replace the file as a whole."""
    new = data_dir / f"{keeper.STATE}.new"
    new.touch(mode=0o600)
    new.write_bytes(msgspec.json.encode(state))
    new.replace(data_dir / keeper.STATE)


class Users:
    """One process's hold on a data directory's servers: while anybody has one, they run.

    The locks are the kernel's and end with the process. A keeper process waits
    for the last one to go and stops what is left; `leave` does the same at once.
    """

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self._users = self._mutex = -1
        self._pid = os.getpid()

    def enter(self, deadline: float) -> None:
        """Become a user, and hold the mutex until `settled`: nobody else starts or stops.

        Args:
            deadline: on the monotonic clock.
        Raises: ServersBusyError when another process does not finish in time.
        """
        while not self._is_current():
            self._close()
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # just being removed
                self._users = keeper.open_lock(self.data_dir / keeper.USERS)
                self._mutex = keeper.open_lock(self.data_dir / keeper.MUTEX)
                try:
                    self._lock(self._mutex, fcntl.LOCK_EX, deadline)
                    self._lock(self._users, fcntl.LOCK_SH, deadline)
                except ServersBusyError:
                    self._close()
                    raise

    def _is_current(self) -> bool:
        """Whether the locks are those of the directory, not of one that was removed meanwhile."""
        if self._mutex < 0:
            return False
        try:
            return all(
                os.fstat(fd).st_ino == (self.data_dir / name).stat().st_ino
                for fd, name in ((self._users, keeper.USERS), (self._mutex, keeper.MUTEX))
            )
        except FileNotFoundError:
            return False

    def settled(self) -> None:
        """Let others start and stop."""
        fcntl.flock(self._mutex, fcntl.LOCK_UN)

    def keep(self) -> None:
        """Start the process that stops the servers when this one is killed."""
        command = [sys.executable, "-I", "-S", keeper.__file__, str(self.data_dir)]
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C on the terminal is not meant for it
            check=True,
        )

    def leave(self, deadline: float) -> None:
        """Stop being a user; the last one stops the servers. Twice is once.

        A child that was forked from the user is not one and changes nothing.
        """
        if self._users < 0 or os.getpid() != self._pid:
            return
        try:
            self._lock(self._mutex, fcntl.LOCK_EX, deadline)
            fcntl.flock(self._users, fcntl.LOCK_UN)
            if keeper.try_exclusive(self._users):
                keeper.stop_all(self.data_dir)
        except ServersBusyError:
            pass  # whoever holds the mutex is a user, or the keeper that stops them
        finally:
            self._close()

    def _close(self) -> None:
        for fd in (self._users, self._mutex):
            if fd >= 0:
                os.close(fd)
        self._users = self._mutex = -1

    def _lock(self, fd: int, kind: int, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServersBusyError(
                        f"Another process is starting or stopping the servers of {self.data_dir} "
                        "and did not finish in time. Nothing was started here. Wait for it, or "
                        "end it, and start again."
                    ) from None
                time.sleep(0.02)
            else:
                return
