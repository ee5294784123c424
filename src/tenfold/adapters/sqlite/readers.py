"""Threads that read: a few for all the modules' files, so that no read holds the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from tenfold.adapters.sqlite.connection import open_reader, unavailable
from tenfold.contracts.errors import DeadlineExceededError

__all__ = ["ReaderPool"]

_T = TypeVar("_T")
_OPS_BETWEEN_LOOKS = 20_000
"""Virtual machine steps of SQLite between two looks at the deadline: about a millisecond."""


class _Read:
    __slots__ = ("deadline", "file", "future", "loop", "module", "snapshot", "work")

    def __init__(
        self,
        file: Path,
        module: str,
        work: Callable[[sqlite3.Connection], Any],
        deadline: float,
        snapshot: bool,
    ) -> None:
        self.file = file
        self.module = module
        self.work = work
        self.deadline = deadline
        self.snapshot = snapshot
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()


class ReaderPool:
    """A few reading threads, each with a connection to every file that it was asked for.

    Reads see the newest committed state at the time they begin.
    """

    def __init__(self, threads: int = 2) -> None:
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._size = threads
        self._threads: list[threading.Thread] = []

    async def read(
        self,
        file: Path,
        module: str,
        work: Callable[[sqlite3.Connection], _T],
        *,
        deadline: float = float("inf"),
        snapshot: bool = False,
    ) -> _T:
        """Run `work` on a reading thread.

        Args:
            deadline: on the monotonic clock; a read that is still running then is interrupted.
            snapshot: whether all statements of `work` see one state.
        Raises: what `work` raises; DeadlineExceededError, StoreUnavailableError (NOT_DONE).
        """
        if not self._threads:
            self._start()
        task = _Read(file, module, work, deadline, snapshot)
        self._queue.put(task)
        result: _T = await task.future
        return result

    def close(self) -> None:
        """End the threads after the reads that were handed in; waits for them."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _start(self) -> None:
        for number in range(self._size):
            thread = threading.Thread(
                target=self._run, name=f"tenfold-reader-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _run(self) -> None:
        connections: dict[Path, _Reader] = {}
        while (task := self._queue.get()) is not None:
            if task.future.cancelled():
                continue
            result: Any = None
            error: BaseException | None = None
            try:
                reader = connections.get(task.file)
                if reader is None:
                    reader = connections[task.file] = _Reader(task.file)
                result = reader.run(task)
            except sqlite3.Error as cause:
                error = unavailable(task.module, cause)
                error.__cause__ = cause
            except BaseException as cause:  # it belongs to the caller, whatever it is
                error = cause
            try:
                task.loop.call_soon_threadsafe(_answer, task.future, result, error)
            except RuntimeError:
                pass  # the loop has ended, and nobody waits for the answer
            task = None
        for reader in connections.values():
            reader.connection.close()


class _Reader:
    """One connection, and the deadline of the read that runs on it."""

    def __init__(self, file: Path) -> None:
        self.connection = open_reader(file)
        self.deadline = float("inf")
        self.connection.set_progress_handler(self._late, _OPS_BETWEEN_LOOKS)

    def _late(self) -> bool:
        return time.monotonic() > self.deadline

    def run(self, task: _Read) -> Any:
        self.deadline = task.deadline
        connection = self.connection
        try:
            if not task.snapshot:
                return task.work(connection)
            connection.execute("BEGIN")
            try:
                return task.work(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname == "SQLITE_INTERRUPT":
                raise DeadlineExceededError(
                    f"A read of module {task.module!r} was still running at its deadline and was "
                    "interrupted. Give the statement an index or a limit, or the operation a "
                    "longer timeout_s."
                ) from error
            raise


def _answer(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
