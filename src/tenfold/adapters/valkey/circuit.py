"""A circuit that opens where the server does not answer, so that nobody waits for it in vain."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Circuit"]

_FAILURES = 3
_SHORTEST_S = 0.25
_LONGEST_S = 5.0


class Circuit:
    """Closed: everything passes. Open: nothing does, but for one trial now and then.

    It opens after three failures in a row, for a quarter of a second, doubled by
    each trial that fails, up to five seconds. Only the server's failures count.
    """

    __slots__ = ("_failures", "_now_s", "_open_s", "_trial", "_until_s", "opened")

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._failures = 0
        self._open_s = _SHORTEST_S
        self._until_s = 0.0
        self._trial = False
        self.opened = 0
        """How often it has opened."""

    @property
    def is_open(self) -> bool:
        """Whether it is open, trials aside."""
        return self._failures >= _FAILURES

    def admit(self) -> bool:
        """Whether a word with the server may be tried now."""
        if self._failures < _FAILURES:
            return True
        if self._trial or self._now_s() < self._until_s:
            return False
        self._trial = True
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0
        self._trial = False
        self._open_s = _SHORTEST_S

    def abandoned(self) -> None:
        """Whoever tried went away before the server could answer."""
        self._trial = False

    def failed(self) -> None:
        """The server did not answer, or answered with an error."""
        self._failures += 1
        if self._failures < _FAILURES:
            return
        if self._trial or self._failures == _FAILURES:
            self.opened += self._failures == _FAILURES
            self._until_s = self._now_s() + self._open_s
            self._open_s = min(self._open_s * 2, _LONGEST_S)
        self._trial = False
