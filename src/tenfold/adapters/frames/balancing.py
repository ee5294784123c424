"""Which process of a service is asked, and which is left alone for a while. No I/O.

Latency is smoothed so that a rise counts at once and is forgotten slowly: the
peak-sensitive moving average of Finagle (`finagle-core`, `PeakEwma`; in Linkerd
`tower::load::PeakEwma`). It is kept in times of what the operation usually takes,
so that a process that is asked for something slow does not look slow itself. The
cheaper of two that chance picks is asked (M. Mitzenmacher, "The Power of Two Choices
in Randomized Load Balancing", 2001). Who fails unlike the others is left alone
as in Envoy's outlier detection (its architecture overview, "Outlier detection"),
and comes back by and by as in Envoy's slow start.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Final

from tenfold.adapters.frames.latencies import Latencies

__all__ = [
    "MOST_FAULTS_IN_A_ROW",
    "Standing",
    "decide_choice",
    "decide_ejection",
    "decide_kept_until_s",
    "decide_slowness",
    "decide_weight",
]

TAU_S: Final = 10.0
"""How fast a peak is forgotten: to a third of it in so long. Finagle's default."""
MOST_FAULTS_IN_A_ROW: Final = 5
"""Envoy's `consecutive_5xx`."""
_FAULT_SHARE: Final = 0.4
_FEWEST_CALLS: Final = 32
"""Before how many calls its share of faults says nothing of a process."""
_SHARE_STEP: Final = 1 / 16
_FIRST_OUT_S: Final = 5.0
_LONGEST_OUT_S: Final = 60.0
RETURN_S: Final = 10.0
"""For how long it gets less than its part, after it was left alone."""
_LEAST_WEIGHT: Final = 0.1
_ALIKE: Final = 1.25
"""Up to how many times of the usual a process counts as just as quick as the others."""


class Standing:
    """What the calls of this process have shown of one other. Seconds are the monotonic clock's:
    the loop's own time has no parts of a millisecond on uvloop."""

    __slots__ = (
        "_next",
        "_settling",
        "_waiting",
        "calls",
        "ejections",
        "in_a_row",
        "out_until_s",
        "seen_s",
        "share",
        "slowness",
    )

    def __init__(self) -> None:
        self.slowness = 1.0
        """Smoothed, in times of the usual, as of `seen_s`."""
        self.seen_s = -math.inf
        self.calls = 0
        self.in_a_row = 0
        """Faults without an answer between them."""
        self.share = 0.0
        """Of faults among the last calls."""
        self.ejections = 0
        """How often it was left alone, of late."""
        self.out_until_s = -math.inf
        self._waiting: dict[int, tuple[float, Latencies]] = {}
        self._settling: list[tuple[float, int, Latencies]] = []
        """Those that may wait for an outcome, in the order in which they then wait for it."""
        self._next = 0

    @property
    def outstanding(self) -> int:
        """Calls that wait for it."""
        return len(self._waiting) + len(self._settling)

    def begin(self, now_s: float, latencies: Latencies, settles_s: float = 0.0) -> int:
        """A call goes there, of an operation with such latencies. Returns: for `end`.

        Args:
            settles_s: how long it may wait there for an outcome, which says nothing of the process.
        """
        self._next = number = self._next + 1
        if settles_s:  # apart: begun ahead of its time it would hide those that came after it
            insort(self._settling, (now_s + settles_s, number, latencies))
        else:
            self._waiting[number] = (now_s, latencies)
        return number

    def end(self, number: int) -> None:
        """A call no longer waits."""
        if self._waiting.pop(number, None) is None:
            at = next(at for at, each in enumerate(self._settling) if each[1] == number)
            del self._settling[at]

    def answered(self, now_s: float, slowness: float) -> None:
        """It has answered, in so many times of the usual."""
        self.slowness = decide_slowness(self.slowness, slowness, now_s - self.seen_s)
        self.seen_s = now_s
        self.did_not_fail(now_s)

    def did_not_fail(self, now_s: float) -> None:
        """It has said something that is no fault, and that may say nothing of how fast it works."""
        self._count(0.0)
        self.in_a_row = 0
        if self.ejections and now_s - self.out_until_s > _LONGEST_OUT_S:
            self.ejections = 0

    def faulted(self) -> None:
        """It has failed. A fault says nothing of how fast it works: it may be the fastest at it."""
        self._count(1.0)
        self.in_a_row += 1

    def waited_for(self, now_s: float, slowness: float) -> None:
        """Somebody gave up after so many times of the usual: it takes that long at the least.

        So it is not quicker than its last answers were, and that does not fade. Where every call
        to a slow process is hedged, and given up when the other has answered, nothing else
        would tell how slow it is.
        """
        if slowness >= _ALIKE:
            self.slowness, self.seen_s = max(self.slowness, slowness), now_s

    def eject(self, now_s: float, seconds: float) -> None:
        """Leave it alone for so long; then it is judged anew."""
        self.out_until_s = now_s + seconds
        self.ejections += 1
        self.calls = self.in_a_row = 0
        self.share = 0.0

    def slowness_at(self, now_s: float) -> float:
        """As it must be taken to be now: a peak fades, and one who still waits knows more."""
        known = self.slowness
        if known > 1.0:
            known = 1.0 + (known - 1.0) * math.exp((self.seen_s - now_s) / TAU_S)
        if self._waiting:
            began_s, latencies = next(iter(self._waiting.values()))  # who has waited longest
            known = max(known, (now_s - began_s) / latencies.usual_s)
        if self._settling:
            began_s, _, latencies = self._settling[0]
            known = max(known, (now_s - began_s) / latencies.usual_s)
        return known

    def cost_at(self, now_s: float, load: float) -> float:
        """What one more call there would take, where each has so many outstanding on average.

        Finagle multiplies by the outstanding calls alone, as if they were answered one after
        another: then a slow one that nobody asks costs as little as a quick one that has ten
        in hand. A process works on many at once, and its latency tells what that costs; who has
        more in hand than the others is dearer by as much. Small differences count for nothing:
        who makes one call after the other would make all of them of the one that was a little
        quicker once.
        """
        slowness = self.slowness_at(now_s)
        if slowness < _ALIKE:
            slowness = 1.0
        return slowness * (self.outstanding + 1 + load) / (1 + load)

    def is_out(self, now_s: float) -> bool:
        """Whether it is left alone."""
        return now_s < self.out_until_s

    def _count(self, fault: float) -> None:
        self.calls += 1
        self.share += (fault - self.share) * _SHARE_STEP


def decide_kept_until_s(standing: Standing) -> float:
    """Until when one is remembered whom no connection leads to: then it is as good as a new one."""
    return max(standing.out_until_s, standing.seen_s) + _LONGEST_OUT_S


def decide_slowness(known: float, observed: float, elapsed_s: float) -> float:
    """The smoothed slowness after one more answer, so long after the one before.

    Returns: what was observed, where that is more; else between the two.
    """
    if observed >= known:
        return observed
    weight = math.exp(-elapsed_s / TAU_S)
    return min(known, observed + (known - observed) * weight)


def decide_weight(now_s: float, out_until_s: float) -> float:
    """Which part of its calls one gets that is back since `out_until_s`: 0 while it is out."""
    if now_s < out_until_s:
        return 0.0
    if now_s - out_until_s >= RETURN_S:
        return 1.0
    return max(_LEAST_WEIGHT, (now_s - out_until_s) / RETURN_S)


def decide_choice(
    one: Standing, other: Standing, now_s: float, load: float, chance: float
) -> Standing:
    """Which of two is asked.

    Args:
        load: outstanding calls of each process of the service, on average.
        chance: from 0 to 1, by which one that is coming back is passed over.
    Returns: the one that costs less, of those that are not passed over.
    """
    if one.ejections or other.ejections:
        passed = decide_weight(now_s, one.out_until_s) <= chance
        if passed != (decide_weight(now_s, other.out_until_s) <= chance):
            return other if passed else one
    return one if one.cost_at(now_s, load) <= other.cost_at(now_s, load) else other


def decide_ejection(standing: Standing, others: Sequence[Standing], now_s: float) -> float | None:
    """Whether one that has just failed is left alone, and for how long.

    It is where it failed so often in a row, or for a large part of its calls while the
    others do not; but never more than half of all are, so that an error of the service
    itself does not leave nobody to ask.

    Returns: seconds, longer each time, or None.
    """
    if standing.is_out(now_s):
        return None
    out = sum(other.is_out(now_s) for other in others)
    if (out + 1) * 2 > len(others) + 1:
        return None
    if standing.in_a_row < MOST_FAULTS_IN_A_ROW:
        within = [other.share for other in others if not other.is_out(now_s)]
        usual = sum(within) / len(within) if within else 0.0
        if (
            standing.calls < _FEWEST_CALLS
            or standing.share < _FAULT_SHARE
            or standing.share < 2 * usual
        ):
            return None
    return min(_FIRST_OUT_S * (standing.ejections + 1), _LONGEST_OUT_S)
