"""How many calls may be sent a second time: a part of those of the last seconds. No I/O."""

from __future__ import annotations

from typing import Final

__all__ = ["FLOOR_PER_S", "PART", "WINDOW_S", "RetryBudget", "decide_retry"]

PART: Final = 0.2
FLOOR_PER_S: Final = 10
WINDOW_S: Final = 10


def decide_retry(calls: int, again: int) -> bool:
    """Whether one more may be sent again, where so many were within the window.

    A fifth of the calls, or the floor where that is more: not both, lest a service under
    load gets more than 1.2 times what it was asked for. (As Finagle's `RetryBudget`,
    which adds them.)
    """
    return again + 1 <= max(PART * calls, FLOOR_PER_S * WINDOW_S)


class RetryBudget:
    """Counts the calls of one service, and those that were sent again, by the second.

    Retries and hedges take from the same: the service cannot tell them apart.
    """

    def __init__(self) -> None:
        self._calls = [0] * WINDOW_S
        self._again = [0] * WINDOW_S
        self._sums = [0, 0]
        self._second = 0

    def note(self, now_s: float) -> None:
        """A call is sent for the first time."""
        second = int(now_s)
        if second != self._second:
            self._turn(second)
        self._calls[second % WINDOW_S] += 1
        self._sums[0] += 1

    def take(self, now_s: float) -> bool:
        """Whether a call may be sent again; if so it is counted."""
        second = int(now_s)
        if second != self._second:
            self._turn(second)
        if not decide_retry(*self._sums):
            return False
        self._again[second % WINDOW_S] += 1
        self._sums[1] += 1
        return True

    def _turn(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - WINDOW_S + 1), second + 1):
            self._calls[passed % WINDOW_S] = self._again[passed % WINDOW_S] = 0
        self._second = second
        self._sums = [sum(self._calls), sum(self._again)]
