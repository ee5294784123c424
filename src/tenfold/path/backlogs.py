"""Queues that push back: commands that feed a full queue fail fast."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from tenfold.contracts.errors import OverloadedError, TenfoldError
from tenfold.ports.records import Backlog

__all__ = ["EASED", "Backlogs", "decide_full"]

EASED = 0.8
"""A full queue takes more again when this share of its bound is left."""
_log = logging.getLogger("tenfold.path")


def decide_full(full: bool, due: int, most: int) -> bool:
    """Whether a queue counts as full, that has so many entries due.

    It stays full until it has fallen well below its bound, so that callers are
    not let in and turned away by turns.
    """
    return due > most * EASED if full else due >= most


class Backlogs:
    """How full the queues of this product are, as of the last look.

    Args:
        most: by module, how many entries may be due in its queue.
        feeds: by module, the queues that its commands feed: its own, and those of
            the modules that subscribe to its events.
        read: by module, the look itself. It goes on every `every_s` seconds.
    """

    def __init__(
        self,
        most: Mapping[str, int],
        feeds: Mapping[str, frozenset[str]],
        read: Mapping[str, Callable[[], Awaitable[Backlog]]],
        *,
        every_s: float = 1.0,
    ) -> None:
        self._most = most
        self._read = read
        self._every_s = every_s
        self._feeds = feeds
        self._full: dict[str, int] = {}
        """Of the queues that are full, how many entries were due."""
        self._task: asyncio.Task[None] | None = None

    @property
    def watched(self) -> tuple[str, ...]:
        """The queues that are looked at."""
        return tuple(self._most)

    @property
    def full(self) -> dict[str, int]:
        """The queues that are full, with how many of their entries are due."""
        return dict(self._full)

    def refusal(self, module: str, target: str) -> OverloadedError | None:
        """The error for a command of a module that feeds a full queue."""
        if not self._full:
            return None
        for name, due in self._full.items():
            if name in self._feeds.get(module, ()):
                return OverloadedError(
                    f"{due} entries wait in the queue of {name!r}, which {target} would add to, "
                    f"and at most {self._most[name]} may. {target} was not begun. Send it again "
                    "later; add workers, or raise max_backlog, if this goes on.",
                    retry_after_s=5.0,
                )
        return None

    async def look(self) -> None:
        """Read how full the queues are. A queue that cannot be read keeps its last word."""
        for module, most in self._most.items():
            try:
                due = (await self._read[module]()).due
            except TenfoldError as error:
                _log.warning("The backlog of %s could not be read. %s", module, error)
                continue
            if decide_full(module in self._full, due, most):
                self._full[module] = due
            else:
                self._full.pop(module, None)

    def start(self) -> None:
        """Begin to look, once a period, where there is anything to look at."""
        if self._most:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Look no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                _log.exception("Looking at the queues failed; it goes on.")
            await asyncio.sleep(self._every_s)
