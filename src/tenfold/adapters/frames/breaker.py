"""The circuit breaker of one operation of a service (M. Nygard, "Release It!"). No I/O.

Closed it lets calls through and counts; open it lets none through for a while; then
one goes through as a probe, whose end closes it or opens it for longer.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["Breaker", "BreakerState", "decide_open", "decide_open_s"]

_WINDOW_S: Final = 5.0
"""Half of the time that is looked back on: there is a window before the present one."""
_FEWEST_CALLS: Final = 20
_FAULT_SHARE: Final = 0.5
_FIRST_OPEN_S: Final = 1.0
_LONGEST_OPEN_S: Final = 30.0


class BreakerState(Enum):
    """What becomes of a call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


def decide_open(calls: int, faults: int) -> bool:
    """Whether so many faults among so many calls are enough to stop calling."""
    return calls >= _FEWEST_CALLS and faults >= calls * _FAULT_SHARE


def decide_open_s(failed_probes: int, chance: float) -> float:
    """For how long it is open; `chance` from 0 to 1 keeps callers from coming back as one."""
    open_s = _FIRST_OPEN_S * 2.0 ** min(failed_probes, 10)
    return float(min(open_s, _LONGEST_OPEN_S) * (0.75 + chance / 2))


class Breaker:
    """Seconds are the monotonic clock's."""

    __slots__ = ("_before", "_calls", "_failed_probes", "_faults", "_until_s", "_window_s", "state")

    def __init__(self) -> None:
        self.state = BreakerState.CLOSED
        self._calls = self._faults = 0
        self._before = (0, 0)
        self._window_s = 0.0
        """When the present window ends."""
        self._failed_probes = 0
        self._until_s = 0.0

    def refuses_for(self, now_s: float) -> float:
        """How long nobody may call; 0 for who may, and who must then say `note` or `forget`.

        While a probe is under way others are refused for as long as it may yet take.
        """
        if self.state is BreakerState.OPEN:
            if now_s < self._until_s:
                return self._until_s - now_s
            self.state = BreakerState.HALF_OPEN
            return 0.0
        if self.state is BreakerState.HALF_OPEN:
            return _FIRST_OPEN_S
        return 0.0

    def note(self, now_s: float, fault: bool, chance: float, *, probe: bool) -> None:
        """How a call ended that was let through; `probe` for one that was in half-open state."""
        if probe:
            if fault:
                self._failed_probes += 1
                self._open(now_s, chance)
            else:
                self.state = BreakerState.CLOSED
                self._failed_probes = self._calls = self._faults = 0
                self._before = (0, 0)
            return
        if self.state is not BreakerState.CLOSED:
            return  # it was sent before
        if now_s >= self._window_s:
            recent = now_s < self._window_s + _WINDOW_S
            self._before = (self._calls, self._faults) if recent else (0, 0)
            self._calls = self._faults = 0
            self._window_s = now_s + _WINDOW_S
        self._calls += 1
        if fault:
            self._faults += 1
            if decide_open(self._calls + self._before[0], self._faults + self._before[1]):
                self._open(now_s, chance)

    def forget(self, now_s: float, *, probe: bool) -> None:
        """A call that was let through ended, and says nothing: another may be the probe."""
        if probe:
            self.state = BreakerState.OPEN
            self._until_s = now_s

    def _open(self, now_s: float, chance: float) -> None:
        self.state = BreakerState.OPEN
        self._until_s = now_s + decide_open_s(self._failed_probes, chance)
        self._calls = self._faults = 0
        self._before = (0, 0)
