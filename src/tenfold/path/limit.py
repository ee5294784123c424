"""A message's one timer, which costs nothing where nothing is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, Final, TypeVar

__all__ = ["Limit", "SharedTimer"]

_T = TypeVar("_T")
_STEP_S: Final = 0.05
_EXACT_BELOW_S: Final = 1.0


class SharedTimer:
    """Rings limits whose time is up, up to 50 ms late, with one timer of the loop for all of them.

    A timer of the loop costs as much as the statement's own part of a small
    read: it is made, started, stopped and closed for each message, and rings for
    next to none. Used from one event loop at a time.
    """

    __slots__ = ("_loop", "_slots")

    def __init__(self) -> None:
        self._slots: dict[int, set[Limit]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where it ticks; None while nobody waits."""

    def add(self, loop: asyncio.AbstractEventLoop, limit: Limit, seconds: float) -> int:
        """Ring a limit after so many seconds; returns where it stands."""
        slot = int((loop.time() + seconds) / _STEP_S) + 1
        found = self._slots.get(slot)
        if found is None:
            found = self._slots[slot] = set()
        found.add(limit)
        if self._loop is not loop:
            self._loop = loop
            loop.call_later(_STEP_S, self._tick, loop)
        return slot

    def discard(self, slot: int, limit: Limit) -> None:
        """It has ended in time, or was rung."""
        found = self._slots.get(slot)
        if found is not None:
            found.discard(limit)
            if not found:
                del self._slots[slot]

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        present = int(loop.time() / _STEP_S)
        for slot in [each for each in self._slots if each <= present]:
            for limit in self._slots.pop(slot, ()):
                limit.ring()
        if self._slots:
            loop.call_later(_STEP_S, self._tick, loop)
        else:
            self._loop = None


class Limit:
    """Cancels a coroutine after so many seconds, as `asyncio.timeout` does.

    It steps the coroutine itself, in the present task, and starts its timer only
    where that suspends. `asyncio.timeout` takes 5 us for every message: a timer,
    and three times a look at which loop and which process this is.
    """

    __slots__ = ("_rang", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float, timer: SharedTimer | None = None) -> None:
        """`timer` rings it, a little late, where it has a second or more."""
        self._seconds = seconds
        self._timer = timer
        self._rang = False

    def expired(self) -> bool:
        """Whether the time was up before the coroutine ended."""
        return self._rang

    @coroutine
    def run(self, work: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
        """Run the coroutine to its end. Raises: TimeoutError when the time is up."""
        began = time.monotonic()
        try:
            waits_for = work.send(None)
        except StopIteration as done:
            result: _T = done.value
            return result
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None, "a message is carried by an asyncio task"
        self._task = task
        cancelling = task.cancelling()
        left_s = self._seconds - (time.monotonic() - began)
        shared, slot, own = self._timer, 0, None
        if shared is not None and left_s >= _EXACT_BELOW_S:
            slot = shared.add(loop, self, left_s)
        else:
            own = loop.call_later(left_s, self.ring)
        uncancelled = False
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    work.close()
                    raise
                except BaseException as error:  # thrown in by the loop: the coroutine's to see
                    waits_for = work.throw(error)
                else:
                    waits_for = work.send(sent)
        except StopIteration as done:
            result = done.value
            return result
        except asyncio.CancelledError as error:
            # Only where nobody else cancelled the task too: that is theirs, and goes on.
            uncancelled = self._rang
            if self._rang and task.uncancel() <= cancelling:
                raise TimeoutError from error
            raise
        finally:
            if own is not None:
                own.cancel()
            elif shared is not None:
                shared.discard(slot, self)
            if self._rang and not uncancelled:
                task.uncancel()

    def ring(self) -> None:
        """The time is up: cancel the task that runs it."""
        self._rang = True
        self._task.cancel()
