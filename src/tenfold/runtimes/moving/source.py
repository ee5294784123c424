"""The files that are moved: a snapshot of each, who writes them, and how their writes are held."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from tenfold.adapters.sqlite.connection import open_reader
from tenfold.runtimes.moving.errors import PauseTooLongError

__all__ = ["SourceFile", "held"]

_TRY_S: Final = 0.002


class SourceFile:
    """One module's file, only read."""

    def __init__(self, module: str, file: Path) -> None:
        self.module = module
        self.file = file
        self.connection = open_reader(file)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Read one state of it, whatever is written meanwhile."""
        self.connection.execute("BEGIN")
        try:
            self.connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
            yield
        finally:
            self.connection.execute("ROLLBACK")

    def meta(self) -> dict[str, str]:
        """What the platform knows of the file."""
        return dict(self.connection.execute("SELECT key, value FROM tenfold_meta"))

    def numbers(self) -> dict[str, int]:
        """The last number that each counting table gave out."""
        return dict(self.connection.execute("SELECT name, seq FROM sqlite_sequence"))

    def generations(self) -> dict[str, tuple[int, int | None]]:
        """Of each projection the generation that answers, and the one that is being built."""
        rows = self.connection.execute("SELECT name, active, building FROM tenfold_projections")
        return {name: (active, building) for name, active, building in rows}

    def close(self) -> None:
        """Let go of it."""
        self.connection.close()


@asynccontextmanager
async def held(files: list[Path], most_s: float) -> AsyncIterator[Any]:
    """Hold the writes of files: whoever writes waits. Nothing is written by holding.

    The locks are the operating system's: they fall with this process, however it ends.

    Args:
        most_s: how long their writers may be kept waiting for all of them to be taken.
    Raises: PauseTooLongError (NOT_DONE).
    """
    until = time.monotonic() + most_s
    with ExitStack() as stack:
        for file in files:
            connection = sqlite3.connect(f"file:{file}?mode=rw", uri=True, isolation_level=None)
            stack.callback(connection.close)
            connection.execute("PRAGMA busy_timeout=0")
            while not _lock(connection):
                if time.monotonic() > until:
                    raise PauseTooLongError(
                        f"A writer of {file.name} did not give way within {most_s:g} s. Nothing "
                        "was switched over, and writes go on. Run the move again, which goes on "
                        "from here; look for a handler that keeps its unit of work open."
                    )
                await asyncio.sleep(_TRY_S)
        yield


def _lock(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith("SQLITE_BUSY"):
            return False
        raise
    return True
