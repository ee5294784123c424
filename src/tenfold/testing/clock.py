"""A clock that stands still until a test moves it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

__all__ = ["HeldClock"]

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class HeldClock:
    """The port `Clock`, held: time passes when `jump` says so, and then at once.

    Whoever sleeps until a moment is told through `on_jump`, as nothing else
    would wake it.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = start
        self._monotonic = 0.0
        self.on_jump: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """The moment it is held at, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Seconds jumped forwards so far."""
        return self._monotonic

    def jump(self, seconds: float) -> datetime:
        """Move the moment; returns it.

        Args:
            seconds: may be negative, like a clock that is set back; the monotonic
                clock then stays.
        """
        self._now += timedelta(seconds=seconds)
        self._monotonic += max(seconds, 0.0)
        for wake in self.on_jump:
            wake()
        return self._now
