"""How long one operation takes, of late: its median and its 95th percentile. No I/O."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["LEAST_S", "Latencies"]

LEAST_S: Final = 20e-6
_STEP: Final = 1.15
"""Each bucket's upper bound in times of the one before: quantiles are so exact."""
_BUCKETS: Final = 1 + math.ceil(math.log(300 / LEAST_S, _STEP))
_PER_STEP: Final = 1 / math.log(_STEP)
_REMEMBERED: Final = 2_000
_LOOK_EVERY: Final = 50
FEWEST: Final = 50
"""Before how many answers there is no `late_s`."""


class Latencies:
    """A histogram whose buckets grow; at 2,000 answers each count is halved, so that it forgets."""

    __slots__ = ("_counts", "_look", "_total", "late_s", "usual_s")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self._look = 0
        self.usual_s = math.inf
        """The median; infinite before the first answer."""
        self.late_s = math.inf
        """The 95th percentile; infinite before there are enough to tell."""

    def note(self, took_s: float) -> None:
        """One more call was answered."""
        place = 0
        if took_s > LEAST_S:
            place = min(int(math.log(took_s / LEAST_S) * _PER_STEP) + 1, _BUCKETS - 1)
        self._counts[place] += 1
        self._total += 1
        self._look -= 1
        if self._look < 0:
            self._look = min(_LOOK_EVERY, self._total)
            self._reckon()

    def _reckon(self) -> None:
        if self._total >= _REMEMBERED:
            self._counts = [count // 2 for count in self._counts]
            self._total = sum(self._counts)
        self.usual_s = self._quantile(0.5)
        if self._total >= FEWEST:
            self.late_s = self._quantile(0.95)

    def _quantile(self, part: float) -> float:
        left = part * self._total
        for place, count in enumerate(self._counts):
            left -= count
            if left <= 0:
                return LEAST_S * _STEP**place
        return LEAST_S * _STEP ** (_BUCKETS - 1)
