"""The lock on a data directory: one process at a time owns the data, and says who it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from tenfold.contracts.errors import TenfoldError, UserMistakeError
from tenfold.contracts.structs import Struct

__all__ = ["DataInUseError", "DataLock", "Holder", "holder_of"]

_LOCK = "lock"
_SOCKET = "control.sock"
_MAX_SOCKET_PATH_BYTES = 100
"""Linux takes 107 bytes and macOS 103; whatever is longer moves to a short folder of its own."""
_TRIES = 6
_PRIVATE = 0o077
State = Literal["starting", "serving", "stopping"]


class DataInUseError(TenfoldError):
    """Another process holds the data directory; two writers never meet, so nothing was started."""

    code = "data.in_use"

    def __init__(self, message: str, *, holder: Holder | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class Holder(Struct):
    """Who holds a data directory, as its lock file says. `control` is the path of its socket."""

    pid: int
    command: str
    state: State
    since: datetime
    control: str


class DataLock:
    """The exclusive lock on one data directory, held until `release` or until the process ends.

    The kernel drops it with the process, however that ends, so a lock is never
    stale; what the file says is only for people and for the socket's path.
    While it is held, what this process makes is readable by its user alone.
    """

    def __init__(self, directory: Path, fd: int, holder: Holder) -> None:
        self.directory = directory
        self._fd = fd
        self._mask: int | None = None
        self.holder = holder

    @staticmethod
    def acquire(directory: Path, command: str) -> DataLock:
        """Take the lock, making the directory where there is none.

        Args:
            command: what this process does, for people: `tenfold run`.
        Raises: DataInUseError naming the holder; UserMistakeError where the
            directory cannot be used.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserMistakeError(
                f"The data directory {directory} cannot be used: {error.strerror}. Nothing was "
                "started. Name another with --data or TENFOLD_DATA."
            ) from error
        if not _try_lock(fd):
            os.close(fd)
            raise _in_use(directory)
        _forget_socket(directory, _read(directory))
        holder = Holder(
            pid=os.getpid(),
            command=command,
            state="starting",
            since=datetime.now(UTC),
            control=str(_socket_path(directory)),
        )
        lock = DataLock(directory, fd, holder)
        # SQLite makes its files as the mask says, also in a directory that was there already.
        lock._mask = os.umask(_PRIVATE)
        lock.say("starting")
        return lock

    def say(self, state: State) -> None:
        """Note in the file how far this process is."""
        self.holder = msgspec.structs.replace(self.holder, state=state)
        text = msgspec.json.encode(self.holder)
        os.pwrite(self._fd, text, 0)
        os.ftruncate(self._fd, len(text))

    def release(self) -> None:
        """Give the directory back; its socket goes with it."""
        if self._fd < 0:
            return
        if self._mask is not None:
            os.umask(self._mask)
        _forget_socket(self.directory, self.holder)
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
        self._fd = -1


def holder_of(directory: Path) -> Holder | None:
    """Who holds a directory at this moment; None where nobody does.

    A holder that has not written its name yet is given as `starting`.
    """
    try:
        fd = os.open(directory / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        return None
    finally:
        os.close(fd)
    unnamed = Holder(pid=0, command="", state="starting", since=datetime.now(UTC), control="")
    return _read(directory) or unnamed


def _try_lock(fd: int) -> bool:
    # Whoever looks for a holder takes the shared lock for an instant, so one failure is no answer.
    for attempt in range(_TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < _TRIES:
                time.sleep(0.02)
        else:
            return True
    return False


def _read(directory: Path) -> Holder | None:
    try:
        return msgspec.json.decode((directory / _LOCK).read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def _in_use(directory: Path) -> DataInUseError:
    holder = _read(directory)
    who = "another process"
    if holder is not None:
        since = f"since {holder.since:%H:%M:%S} UTC"
        who = f"process {holder.pid} (`{holder.command}`, {holder.state} {since})"
    return DataInUseError(
        f"The data in {directory} is held by {who}. Nothing was started. Stop that process, or "
        "name another directory with --data or TENFOLD_DATA.",
        holder=holder,
    )


def _socket_path(directory: Path) -> Path:
    path = directory / _SOCKET
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES:
        return path
    for root in (None, "/tmp"):  # a folder of our own inside of it, mode 0700
        short = Path(tempfile.mkdtemp(prefix="tenfold-", dir=root)) / _SOCKET
        if len(os.fsencode(short)) <= _MAX_SOCKET_PATH_BYTES:
            return short
        short.parent.rmdir()
    raise UserMistakeError(
        f"{directory} is too long a path for a control socket, and so is the folder for temporary "
        "files. Nothing was started. Choose a shorter TENFOLD_DATA or TMPDIR."
    )


def _forget_socket(directory: Path, holder: Holder | None) -> None:
    """Remove the socket of a process that ended, with the folder that was made for it.

    A lock file may be a copy of another directory's, and then what it names is
    in use: beside the directory's own socket only what nobody answers at goes.
    """
    own = directory / _SOCKET
    own.unlink(missing_ok=True)
    path = Path(holder.control) if holder is not None and holder.control else own
    folder = path.parent
    if path == own or path.name != _SOCKET or not folder.name.startswith("tenfold-"):
        return
    if not _is_deserted(path):
        return
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it may be a data directory, and has more in it
        folder.rmdir()


def _is_deserted(path: Path) -> bool:
    """Whether there is no process behind a socket; what is no socket, is nobody's to remove."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return True
        except OSError:
            return False
    return False
