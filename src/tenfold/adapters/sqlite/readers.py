"""Threads that read: a few for all the modules' files, so that no read holds the event loop.

Handlers' reads and the platform's own have threads apart, and one module's reads
take half of the first at the most: slow queries of one module hold up its own
queries, not another's, nor the queues and relays.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from tenfold.adapters.sqlite.connection import is_failure, open_reader, unavailable
from tenfold.contracts.errors import DeadlineExceededError

__all__ = ["ReaderPool"]

_T = TypeVar("_T")
_log = logging.getLogger("tenfold.store")
CLOSE_S = 10.0
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

    Args:
        threads: for handlers' reads, of which one module takes half at the most;
            the platform's own reads have one more.
    """

    def __init__(self, threads: int = 4) -> None:
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._platform: SimpleQueue[_Read | None] = SimpleQueue()
        self._size = threads
        self._most = max(threads // 2, 1)
        self._running: Counter[Path] = Counter()
        self._waiting: dict[Path, deque[_Read]] = {}
        self._lock = threading.Lock()
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
            snapshot: all statements of `work` see one state; for the platform's own reads.
        Raises: what `work` raises; DeadlineExceededError, StoreUnavailableError (NOT_DONE).
        """
        if not self._threads:
            self._start()
        task = _Read(file, module, work, deadline, snapshot)
        if snapshot:
            self._platform.put(task)
        else:
            self._admit(task)
        result: _T = await task.future
        return result

    def close(self, wait_s: float = CLOSE_S) -> None:
        """End the threads after the reads that were handed in, waiting up to `wait_s`."""
        with self._lock:
            for waiting in self._waiting.values():
                for task in waiting:
                    self._queue.put(task)
            self._waiting.clear()
        if self._threads:
            self._platform.put(None)
            for _ in range(self._size):
                self._queue.put(None)
        until = time.monotonic() + wait_s
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))
            if thread.is_alive():
                _log.error("%s was not done within %g s, and is left behind.", thread.name, wait_s)
        self._threads.clear()

    def _start(self) -> None:
        sources = [self._platform] + [self._queue] * self._size
        for number, source in enumerate(sources):
            thread = threading.Thread(
                target=self._run, args=(source,), name=f"tenfold-reader-{number}", daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _admit(self, task: _Read) -> None:
        """Let a read in, or keep it back until one of its module's has ended."""
        with self._lock:
            if self._running[task.file] >= self._most:
                self._waiting.setdefault(task.file, deque()).append(task)
                return
            self._running[task.file] += 1
        self._queue.put(task)

    def _ended(self, task: _Read) -> None:
        """Let the next one in that was kept back."""
        if task.snapshot:
            return
        with self._lock:
            waiting = self._waiting.get(task.file)
            if waiting:
                self._queue.put(waiting.popleft())
            else:
                self._running[task.file] -= 1

    def _run(self, source: SimpleQueue[_Read | None]) -> None:
        connections: dict[Path, _Reader] = {}
        while (task := source.get()) is not None:
            if task.future.cancelled():
                self._ended(task)
                continue
            result: Any = None
            error: BaseException | None = None
            try:
                reader = connections.get(task.file)
                if reader is None:
                    reader = connections[task.file] = _Reader(task.file)
                result = reader.run(task)
            except sqlite3.Error as cause:
                error = cause
                if is_failure(cause):
                    error = unavailable(task.module, cause)
                    error.__cause__ = cause
            except BaseException as cause:  # it belongs to the caller, whatever it is
                error = cause
            try:
                task.loop.call_soon_threadsafe(_answer, task.future, result, error)
            except RuntimeError:
                pass  # the loop has ended, and nobody waits for the answer
            self._ended(task)
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
