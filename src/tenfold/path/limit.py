"""A message's one timer, which costs nothing where nothing is waited for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

__all__ = ["Limit"]

_T = TypeVar("_T")


class Limit:
    """Cancels a coroutine after so many seconds, as `asyncio.timeout` does.

    It steps the coroutine itself, in the present task, and starts its timer only
    where that suspends. `asyncio.timeout` takes 5 us for every message: a timer,
    and three times a look at which loop and which process this is.
    """

    __slots__ = ("_rang", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
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
        timer = loop.call_later(self._seconds - (time.monotonic() - began), self._ring)
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
            timer.cancel()
            if self._rang and not uncancelled:
                task.uncancel()

    def _ring(self) -> None:
        self._rang = True
        self._task.cancel()
