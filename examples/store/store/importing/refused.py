"""The file of refused lines: it appears whole or not at all."""

from __future__ import annotations

import csv
import os
import stat
from pathlib import Path
from types import TracebackType

from store.importing.lines import Reason
from store.importing.reading import Record

__all__ = ["RefusedFile", "place_for_refused"]


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


class RefusedFile:
    """Writes `line,reason` and the original fields to a file beside `path`, then renames it.

    A line that is no record of the file's columns stands as one text in the
    first of them. Left by an exception, it leaves nothing behind.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Always the same name, so that a run that was killed leaves one draft and not many.
        self._draft = path.with_name(f".{path.name}.draft")
        # A lone surrogate cannot occur, but a file must never fail to be written for its text.
        self._file = self._draft.open("w", encoding="utf-8", errors="replace", newline="")
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
        if kind is not None:
            self._file.close()
            self._draft.unlink(missing_ok=True)
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self.path)
