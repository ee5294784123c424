"""The counter of rate limits in memory: for one process, and while Valkey is away."""

from __future__ import annotations

from tenfold.ports.clock import Clock
from tenfold.ports.limits import Grant, Rate, decide_grant

__all__ = ["MemoryCounter"]

_MOST_KEYS = 100_000


class MemoryCounter:
    """Implements `SharedCounter` for the callers of one process.

    It keeps at most `most_keys`; beyond them the one that was begun first is
    forgotten, which errs on the callers' side.
    """

    def __init__(self, clock: Clock, *, most_keys: int = _MOST_KEYS) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._windows: dict[tuple[str, Rate], tuple[int, int, int]] = {}
        """By key: the number of the fixed window, what the one before had, what it has."""

    async def take(self, key: str, rate: Rate, wanted: int) -> Grant:
        """Take up to `wanted` at once. See `SharedCounter.take`."""
        return self.take_now(key, rate, wanted)

    def take_now(self, key: str, rate: Rate, wanted: int) -> Grant:
        """The same, for a caller who cannot wait."""
        now_s = self._clock.now().timestamp()
        number = int(now_s // rate.window_s)
        place = (key, rate)
        begun, previous, current = self._windows.get(place, (number, 0, 0))
        if begun != number:
            previous, current = (current if begun == number - 1 else 0), 0
        grant = decide_grant(rate, previous, current, now_s - number * rate.window_s, wanted)
        if begun != number or place not in self._windows:
            self._windows.pop(place, None)  # to the end: those begun last are kept longest
            while len(self._windows) >= self._most_keys:
                del self._windows[next(iter(self._windows))]
        self._windows[place] = (number, previous, current + grant.granted)
        return grant
