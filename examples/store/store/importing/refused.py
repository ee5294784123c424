"""The file of refused lines: it appears whole or not at all."""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import stat
from pathlib import Path
from types import TracebackType

from store.importing.lines import Reason
from store.importing.reading import Record

__all__ = ["RefusedFile", "draft_of", "place_for_refused"]


def place_for_refused(source: Path) -> Path:
    """Where refused lines go unless told otherwise: beside the file, `NAME.refused.csv`.

    A folder that nobody may write into is left alone, even by a user who
    could: then it is the folder that one stands in.
    """
    name = source.name.removesuffix(".gz").removesuffix(".csv") + ".refused.csv"
    folder = source.parent
    modes = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
    writable = bool(folder.stat().st_mode & modes) and os.access(folder, os.W_OK)
    return folder / name if writable else Path(name)


def draft_of(path: Path) -> Path:
    """The file beside `path` that is written first.

    It always has the same name, so that a run that was killed leaves one
    draft and not many.
    """
    return path.with_name(f".{path.name}.draft")


class RefusedFile:
    """Writes `line,reason` and the original fields to a file beside `path`, then renames it.

    A line that is no record of the file's columns stands as one text in the
    first of them. Left by an exception, it leaves nothing behind.

    Raises: OSError where it cannot be written; BlockingIOError while another
        process writes the same file.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        self.path = path
        self._draft = draft_of(path)
        # A lone surrogate cannot occur, but a file must never fail to be written for its text.
        self._file = open(  # noqa: SIM115
            _hold(self._draft), "w", encoding="utf-8", errors="replace", newline=""
        )
        self._writer = csv.writer(self._file)
        self._columns = 0

    def begin(self, header: list[str]) -> None:
        """Write the header: line, reason, and the columns of the original."""
        self._columns = len(header)
        self._writer.writerow(["line", "reason", *header])

    def write(self, record: Record, reason: Reason) -> None:
        """Write one refused record."""
        fields = record.fields
        if fields is None or len(fields) != self._columns:
            fields = [record.text, *[""] * (self._columns - 1)]
        self._writer.writerow([record.line, reason.value, *fields])

    def __enter__(self) -> RefusedFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The lock goes with the file, so the draft's name is given up before it is closed.
        with self._file:
            if kind is not None:
                self._draft.unlink(missing_ok=True)
                return
            self._file.flush()
            os.fsync(self._file.fileno())
            self._draft.replace(self.path)


def _hold(draft: Path) -> int:
    """Open a draft that no other process writes, and empty it."""
    while True:
        # Where others may write into the folder, a link might lead into a file of ours.
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may just have given it its final name.
            if _is(fd, draft):
                os.ftruncate(fd, 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False
