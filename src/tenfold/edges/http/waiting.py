"""Waiting with a limit, at no cost to what need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Protocol, TypeVar

from tenfold.edges.http.asgi import Receive

__all__ = ["Alarm", "DisconnectWatch", "Guard", "Watches", "guarded"]

_T = TypeVar("_T")


class Guard(Protocol):
    """What is set up while a coroutine waits, and taken down when it has ended."""

    def begin(self) -> None:
        """Called when the coroutine suspends for the first time."""
        ...

    def end(self) -> None:
        """Called when a coroutine that had suspended has ended, however it ended."""
        ...


@coroutine
def guarded(work: Coroutine[Any, Any, _T], guard: Guard) -> Generator[Any, Any, _T]:
    """Run a coroutine in the present task, under a guard from its first suspension on.

    A body that is there already and an answer that needs no input cost neither
    a timer nor a task, which `asyncio.timeout` and `create_task` would.
    """
    try:
        waits_for = work.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    guard.begin()
    try:
        while True:
            try:
                sent = yield waits_for
            except GeneratorExit:
                work.close()
                raise
            except BaseException as error:
                waits_for = work.throw(error)
            else:
                waits_for = work.send(sent)
    except StopIteration as done:
        result = done.value
        return result
    finally:
        guard.end()


class Alarm:
    """Cancels the task that it guards after so many seconds. `rang` says that it did."""

    __slots__ = ("_handle", "_seconds", "_task", "rang")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.rang = False

    def begin(self) -> None:
        """Start the timer."""
        self._task = _present_task()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._ring)

    def end(self) -> None:
        """Stop the timer."""
        self._handle.cancel()
        if self.rang:
            self._task.uncancel()

    def _ring(self) -> None:
        self.rang = True
        self._task.cancel()


class DisconnectWatch:
    """Cancels the task that it guards when the client has gone. `gone` says that it did.

    It begins to look when its `Watches` do: most answers are given sooner, and
    then the watch costs neither a task nor a timer.
    """

    __slots__ = ("_receive", "_task", "_watcher", "_watches", "gone")

    def __init__(self, receive: Receive, watches: Watches) -> None:
        self._receive = receive
        self._watches = watches
        self._watcher: asyncio.Task[None] | None = None
        self.gone = False

    def begin(self) -> None:
        """Wait to look."""
        self._task = _present_task()
        self._watches.add(self)

    def end(self) -> None:
        """Stop watching."""
        self._watches.discard(self)
        if self._watcher is not None:
            self._watcher.cancel()
        if self.gone:
            self._task.uncancel()

    def look(self) -> None:
        """Begin to look."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()


class Watches:
    """Those who wait for an answer, with one timer for all of them.

    A watch looks once it has waited for `after_s`, and before it has waited for
    twice as long. Used from one event loop at a time.
    """

    __slots__ = ("_after_s", "_before", "_loop", "_new")

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._new: set[DisconnectWatch] = set()
        self._before: set[DisconnectWatch] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the timer runs; None while nobody waits."""

    def add(self, watch: DisconnectWatch) -> None:
        """Let it look later."""
        self._new.add(watch)
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(self._after_s, self._turn, loop)

    def discard(self, watch: DisconnectWatch) -> None:
        """It need not look, or has."""
        self._new.discard(watch)
        self._before.discard(watch)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        due, self._before, self._new = self._before, self._new, set()
        for watch in due:
            watch.look()
        if self._before:
            loop.call_later(self._after_s, self._turn, loop)
        else:
            self._loop = None


def _present_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None, "the HTTP edge runs inside an asyncio task"
    return task
