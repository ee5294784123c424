"""The one thread that writes a module's file: it steps handlers, and groups their commits.

Units of work that are ready together are run one after another, each in a
savepoint of its own, and share one commit; every answer waits for that commit,
refusals included, since they may rest on state that would vanish with it. While
one group is synced the next one gathers, so that no unit ever waits for company.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from tenfold.adapters.sqlite.connection import open_writer, unavailable
from tenfold.contracts.errors import Outcome, StoreUnavailableError, TenfoldError
from tenfold.ports.news import CommitNews
from tenfold.ports.stepping import close_handler
from tenfold.ports.unit import Unit, UnitLostError

__all__ = ["GroupNews", "Task", "UnitTask", "Writer"]

_T = TypeVar("_T")
_log = logging.getLogger("tenfold.store")
GROUP = 64
"""Units of work in one commit, at the most."""
CLOSE_S = 10.0
_PLATFORM_ATTEMPTS = 3
_TURN_S = 0.02
_TURNS = threading.Lock()
# One lock for the process, since it stands for the interpreter's: each of SQLite's statements lets
# go of that one, and every writer that waits for it is woken in vain. With six writers at work
# this took a third of all processor time.


class GroupNews(CommitNews):
    """What a committed group holds for others.

    `alive` are claims that were seen to stand in this transaction, in which the
    platform's own work alone can end them.
    """

    __slots__ = ("alive",)

    def __init__(self, alive: set[int] | None = None) -> None:
        super().__init__()
        self.alive: set[int] = set() if alive is None else alive


class Task:
    """The platform's own work on the file: a function of the connection."""

    __slots__ = ("attempts", "error", "future", "loop", "result", "work")

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None
        self.attempts = 0

    def run(self, connection: sqlite3.Connection, news: GroupNews) -> Any:
        """Carry it out inside its savepoint."""
        news.alive.clear()
        return self.work(connection)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more, so that it need not begin."""
        return self.future.cancelled()

    def give_up(self) -> None:
        """Let go of what would have been run."""

    def lost(self, error: StoreUnavailableError) -> BaseException | None:
        """What to answer when the group was rolled back by another's failure; None: run again."""
        self.attempts += 1
        return error if self.attempts >= _PLATFORM_ATTEMPTS else None


class UnitTask(Task):
    """A unit of work, with the handler that is to be stepped inside it."""

    __slots__ = ("carry", "context", "handler", "unit", "value")

    def __init__(
        self,
        unit: Unit,
        handler: Coroutine[Any, Any, Any] | None,
        context: Context,
        value: Any,
        carry: Callable[[sqlite3.Connection, UnitTask, GroupNews], Any],
    ) -> None:
        super().__init__(_nothing)
        self.unit = unit
        self.handler = handler
        self.context = context
        self.value = value
        self.carry = carry

    def run(self, connection: sqlite3.Connection, news: GroupNews) -> Any:
        """Carry it out inside its savepoint."""
        return self.carry(connection, self, news)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for it any more, so that it need not begin."""
        return self.unit.cancelled or self.future.cancelled()

    def give_up(self) -> None:
        """Let go of the handler, which was begun and will not be finished."""
        close_handler(self.handler, self.context)

    def lost(self, error: StoreUnavailableError) -> BaseException | None:
        """A handler that was stepped cannot be stepped again: the path begins it anew."""
        lost = UnitLostError(
            "The group of units of work that this one belonged to was rolled back. Nothing was "
            "committed, and it may be begun again."
        )
        lost.__cause__ = error
        return lost


def _nothing(_: sqlite3.Connection) -> None:
    return None


class _Turn:
    """The right to run handlers while the other modules' writers wait; syncing needs none.

    It saves time and keeps nothing safe: a writer that has waited for 20 ms goes on without, so
    that a slow statement of one module does not hold up another.
    """

    __slots__ = ("_mine",)

    def __init__(self) -> None:
        self._mine = False

    def take(self) -> None:
        """Wait for it, unless it is held already."""
        if not self._mine:
            self._mine = _TURNS.acquire(timeout=_TURN_S)

    def give_up(self) -> None:
        """Let the next one have it."""
        if self._mine:
            self._mine = False
            _TURNS.release()


class Writer:
    """The writing thread of one module's file."""

    def __init__(self, file: Path, module: str, on_commit: Callable[[GroupNews], None]) -> None:
        self._file = file
        self._module = module
        self._on_commit = on_commit
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Lock()
        self._broken: StoreUnavailableError | None = None
        self._singly = 0

    def start(self) -> None:
        """Start the thread. The file must be there and migrated."""
        self._thread = threading.Thread(
            target=self._run, name=f"tenfold-writer-{self._module}", daemon=True
        )
        self._thread.start()

    def close(self, wait_s: float = CLOSE_S) -> None:
        """End the thread after what was handed in is committed, and take nothing more.

        A handler that keeps the thread is waited for up to `wait_s`, then left
        behind: what it has not committed is rolled back when the process ends.
        """
        thread = self._thread
        if thread is None:
            return
        with self._closing:
            self._thread = None
            self._queue.put(None)
        thread.join(wait_s)
        if thread.is_alive():
            _log.error(
                "The writer of module %s was not done within %g s: a handler keeps its thread, or "
                "a statement takes long. It is left behind; what it commits yet is whole, or "
                "nothing. Look for blocking calls in the module's handlers.",
                self._module,
                wait_s,
            )

    def refuse(self, refusal: StoreUnavailableError | None) -> None:
        """Write nothing more from the next transaction on, or with None write again.

        Where the caller holds the file's write lock, nothing is committed after this returns.
        """
        self._broken = refusal

    @property
    def broken(self) -> StoreUnavailableError | None:
        """Why nothing more is written, after a sync of the log failed; None while all is well."""
        return self._broken

    def submit(self, task: Task) -> None:
        """Hand work in; its future is answered after the commit.

        Raises: StoreUnavailableError (NOT_DONE) once it is closed.
        """
        with self._closing:
            if self._thread is not None:
                self._queue.put(task)
                return
        raise StoreUnavailableError(
            f"The database of module {self._module!r} is closed. Nothing was done. The product "
            "stops: send it again when it has started."
        )

    def _run(self) -> None:
        try:
            connection = open_writer(self._file)
        except sqlite3.Error as error:
            self._broken = self._refusal(error)
            self._refuse_all()
            return
        turn = _Turn()
        try:
            ending = False
            while not ending:
                task = self._queue.get()
                # What comes while it waits for its turn joins the group.
                turn.take()
                group, ending = self._gather(task)
                task = None
                while group:
                    group = self._commit_or_tell(connection, group, turn)
                turn.give_up()
        finally:
            turn.give_up()
            connection.close()

    def _gather(self, task: Task | None) -> tuple[list[Task], bool]:
        """All that is ready to be run, up to a group, and whether it is the last of all."""
        group: list[Task] = []
        while task is not None:
            group.append(task)
            if self._singly:
                self._singly -= 1
                return group, False
            if len(group) >= GROUP:
                return group, False
            try:
                task = self._queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _refuse_all(self) -> None:
        ending = False
        while not ending:
            group, ending = self._gather(self._queue.get())
            self._answer(group, GroupNews(), failure=self._broken)

    def _commit_or_tell(
        self, connection: sqlite3.Connection, group: list[Task], turn: _Turn
    ) -> list[Task]:
        """`_commit_group`, which must not end the thread: everybody after would wait for ever."""
        try:
            return self._commit_group(connection, group, turn)
        except BaseException as error:  # no failure of the store: no memory, or a mistake of ours
            undone = connection.in_transaction
            failure = StoreUnavailableError(
                f"The writer of module {self._module!r} failed with {type(error).__name__}: "
                f"{error}. {'Nothing was' if undone else 'It may be'} committed. Send it again "
                "with its Idempotency-Key.",
                outcome=Outcome.NOT_DONE if undone else Outcome.MAYBE_DONE,
            )
            failure.__cause__ = error
            try:
                _roll_back(connection)
            except sqlite3.Error as stuck:
                self._broken = self._refusal(stuck)
            self._answer(group, GroupNews(), failure=failure)
            return []

    def _commit_group(
        self, connection: sqlite3.Connection, group: list[Task], turn: _Turn
    ) -> list[Task]:
        """Run a group in one transaction and answer it; returns what is to be run again."""
        news = GroupNews()
        if self._broken is not None:
            self._answer(group, news, failure=self._broken)
            return []
        done: list[Task] = []
        turn.take()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._answer(group, news, failure=self._failure(error))
            return []
        refused = self.broken  # since it began to wait for the lock
        if refused is not None:
            _roll_back(connection)
            self._answer(group, news, failure=refused)
            return []
        for position, task in enumerate(group):
            done.append(task)
            fatal = self._run_one(connection, task, news)
            if fatal is not None:
                _roll_back(connection)
                return self._lose(done[:-1], task, fatal) + group[position + 1 :]
        turn.give_up()
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            return self._commit_failed(connection, group, error)
        self._answer(group, news)
        return []

    def _run_one(
        self, connection: sqlite3.Connection, task: Task, news: GroupNews
    ) -> StoreUnavailableError | None:
        """Run one task in a savepoint; returns the failure that took the transaction with it."""
        task.error = None
        if task.abandoned:
            task.give_up()
            task.error = asyncio.CancelledError()
            return None
        mine = GroupNews(news.alive)
        try:
            connection.execute("SAVEPOINT unit")
            task.result = task.run(connection, mine)
            connection.execute("RELEASE unit")
            news.head = max(news.head, mine.head)
            news.entries |= mine.entries
            return None
        except BaseException as error:  # whatever a handler raises is its caller's to see
            cause = _sqlite_failure(error)
            if not connection.in_transaction:
                return self._failure(cause or sqlite3.OperationalError(str(error)))
            try:
                connection.execute("ROLLBACK TO unit")
                connection.execute("RELEASE unit")
            except sqlite3.Error as failed:
                return self._failure(failed)
            task.error = self._failure(cause) if cause is not None else error
            return None

    def _lose(
        self, before: list[Task], culprit: Task, failure: StoreUnavailableError
    ) -> list[Task]:
        """Answer a rolled-back group: the one that failed fails, the others are run again."""
        culprit.error = failure
        again: list[Task] = []
        answered = [culprit]
        for task in before:
            error = task.lost(failure)
            if error is None:
                again.append(task)
            else:
                task.error = error
                answered.append(task)
        self._answer(answered, GroupNews())
        return again

    def _commit_failed(
        self, connection: sqlite3.Connection, group: list[Task], error: sqlite3.Error
    ) -> list[Task]:
        failure = self._failure(error)
        if error.sqlite_errorname.startswith("SQLITE_CONSTRAINT"):
            return self._run_singly(connection, group, error)
        if error.sqlite_errorname.startswith("SQLITE_IOERR"):
            # After a failed sync nobody knows what the disk holds: the log may come back with
            # this commit at the next start. Going on would build on state that may vanish.
            failure = unavailable(self._module, error, outcome=Outcome.MAYBE_DONE)
            self._broken = self._refusal(error)
        _roll_back(connection)
        self._answer(group, GroupNews(), failure=failure)
        return []

    def _run_singly(
        self, connection: sqlite3.Connection, group: list[Task], error: sqlite3.Error
    ) -> list[Task]:
        """A reference that is checked at the commit failed it, and nothing tells whose it is.

        Tables with such references are refused, but a migration may have made one.
        Run again one by one, the unit that did it fails alone.
        """
        _roll_back(connection)
        if len(group) == 1:
            group[0].error = error
            self._answer(group, GroupNews())
            return []
        self._singly = len(group)
        failure = self._failure(error)
        again: list[Task] = []
        answered: list[Task] = []
        for task in group:
            lost = task.lost(failure)
            if lost is None:
                again.append(task)
            else:
                task.error = lost
                answered.append(task)
        self._answer(answered, GroupNews())
        return again

    def _refusal(self, error: sqlite3.Error) -> StoreUnavailableError:
        """What whoever comes after is told: their work was not even begun."""
        name = getattr(error, "sqlite_errorname", "") or type(error).__name__
        refusal = StoreUnavailableError(
            f"The database of module {self._module!r} writes no more, since it failed with "
            f"{name}: {error}. Nothing was committed. Check the disk, then restart the product."
        )
        refusal.__cause__ = error
        return refusal

    def _failure(self, error: sqlite3.Error) -> StoreUnavailableError:
        failure = unavailable(self._module, error)
        failure.__cause__ = error
        return failure

    def _answer(
        self, tasks: list[Task], news: GroupNews, failure: StoreUnavailableError | None = None
    ) -> None:
        """Wake everyone who waits for these tasks: one call into the loop for all of them."""
        if failure is not None:
            for task in tasks:
                task.error = failure
        by_loop: dict[asyncio.AbstractEventLoop, list[Task]] = {}
        for task in tasks:
            by_loop.setdefault(task.loop, []).append(task)
        for loop, group in by_loop.items():
            try:
                loop.call_soon_threadsafe(self._deliver, group, news)
            except RuntimeError:
                pass  # that loop has ended, and nobody waits for the answers

    def _deliver(self, tasks: list[Task], news: GroupNews) -> None:
        for task in tasks:
            if task.future.done():
                continue
            if task.error is not None:
                task.future.set_exception(
                    task.error
                    if not isinstance(task.error, (asyncio.CancelledError, StopIteration))
                    else UnitLostError("The unit of work was given up by its caller.")
                )
            else:
                task.future.set_result(task.result)
        if news.head or news.entries:
            self._on_commit(news)


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        try:
            connection.execute("ROLLBACK")
        except sqlite3.Error:
            # SQLite refuses ROLLBACK only where there is no transaction left to roll back.
            if connection.in_transaction:
                raise


def _sqlite_failure(error: BaseException) -> sqlite3.Error | None:
    """The failure of the store itself behind an error: not a constraint, not a wrong statement."""
    if isinstance(error, TenfoldError) or not isinstance(error, sqlite3.OperationalError):
        return None
    name = getattr(error, "sqlite_errorname", "")
    return error if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_BUSY")) else None
