"""Shedding: how much one process takes on at once, and whom it turns away.

    arrive ──> decide_arrival ──> arrival ──> begin ──> handler ──> leave
                  │ refused: 503     late: 503 ┘                     │ latency
                  └────────────── limit <── decide_limit <───────────┘

What counts is everything between its arrival at the edge and its end, in the
event loop's own queue too: a handler that computes never waits, so that a count
of those that have begun would be one at most however long the queue.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from tenfold.contracts.errors import OverloadedError
from tenfold.contracts.structs import Struct
from tenfold.ports.clock import Clock

__all__ = [
    "WEIGHTS",
    "Arrival",
    "Shedder",
    "SheddingCounts",
    "SheddingSettings",
    "Window",
    "decide_arrival",
    "decide_limit",
]

WEIGHTS: dict[str, float] = {"critical": 2.0, "normal": 1.0, "background": 0.5}
"""By priority, how much of the limit may be taken when one more comes in."""

_WINDOW_S = 0.1
_ENOUGH = 10
_LONGEST_WINDOW_S = 1.0
_WORST = 3.0
"""What one message may say against the limit, in times of what it should have taken."""
_EASE = 0.05
_AT_EASE = 0.03
"""Share of the limit up to which messages are not in one another's way."""
_CALM = 0.5
"""Below this share of the limit nobody is asked for a priority."""


class SheddingSettings(Struct):
    """How a process protects itself: `[topologies.X.shedding]`.

    A message may take `tolerance` times what it takes at ease and `wait_s` more;
    as long as they do so on average the limit grows, and beyond it shrinks,
    between `least` and `most` messages at once. One that has waited `stale_s`
    before its handler begins is turned away. Without it there are the fixed bounds
    of the edge alone; where `enabled` is not said, several processes that share
    a database shed, and the one process that has SQLite does not.
    """

    enabled: bool | None = None
    wait_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.1
    tolerance: Annotated[float, msgspec.Meta(ge=1, le=100)] = 2.0
    stale_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 0.5
    first: Annotated[int, msgspec.Meta(ge=1)] = 100
    least: Annotated[int, msgspec.Meta(ge=1)] = 4
    most: Annotated[int, msgspec.Meta(ge=1)] = 1_000


class Window(msgspec.Struct, frozen=True):
    """What was seen since the limit was last decided.

    `slowness` is how long messages took on average, in times of what they may;
    `peak` the most at once; `refused` how many were turned away.
    """

    slowness: float
    peak: int
    refused: int


def decide_limit(limit: float, window: Window, settings: SheddingSettings) -> float:
    """The limit after a window.

    It shrinks by as much as messages took too long, by half at most, from what
    was there and not from a limit that nobody came near. It grows by its root
    while it binds and there is room, as TCP Vegas and Netflix's gradient do,
    and holds in between: growing while messages are slow never ends
    (concurrency-limits, #134). Nothing is probed.
    """
    if window.slowness > 1.0:
        shrunk = min(limit, window.peak) * max(0.5, 1.0 / window.slowness)
        return max(settings.least, min(limit, shrunk))
    binds = window.refused > 0 or window.peak >= 0.9 * limit
    if binds and window.slowness < 0.8:
        return min(settings.most, limit + math.sqrt(limit))
    return limit


def decide_arrival(total: int, own: int, tenants: int, limit: float, weight: float) -> bool:
    """Whether one more is taken on.

    There is room below the limit, weighted by priority. Above it, only a tenant
    with less than its even share is taken on: who floods meets the limit first,
    and the others find their share free. At twice the limit nobody is.

    Args:
        total: messages there.
        own: those of its tenant.
        tenants: how many have any, its own included.
        weight: of its priority, from `WEIGHTS`.
    """
    room = limit * weight
    if total < room:
        return True
    return tenants > 1 and own * tenants < room and total < 2 * room


class SheddingCounts(msgspec.Struct, frozen=True):
    """What a process's shedder did so far, for gauges."""

    limit: float
    present: int
    refused: int
    stale: int


class Arrival:
    """One message that was taken on, from its arrival to its end.

    `at_s` is when it arrived, by the shedder's clock; `crowd` how many were there.
    """

    __slots__ = ("_shedder", "_tenant", "at_s", "crowd")

    def __init__(self, shedder: Shedder, tenant: str, at_s: float, crowd: int) -> None:
        self._shedder: Shedder | None = shedder
        self._tenant = tenant
        self.at_s = at_s
        self.crowd = crowd

    def leave(self) -> None:
        """It is over, or never was one: make room. A second time changes nothing."""
        shedder = self._shedder
        if shedder is not None:
            self._shedder = None
            shedder.forget(self._tenant)


class Shedder:
    """The adaptive limit of one process. Used from its event loop alone."""

    def __init__(self, settings: SheddingSettings, clock: Clock) -> None:
        self._settings = settings
        self._monotonic = clock.monotonic
        self._limit = float(min(max(settings.first, settings.least), settings.most))
        self._present = 0
        self._tenants: dict[str, int] = {}
        self._ease: dict[str, float] = {}
        """By operation, the seconds that it takes at ease."""
        self._refused = self._stale = 0
        self._began_s = self._monotonic()
        self._seen = 0
        self._sum = 0.0
        self._peak = 0
        self._turned_away = 0

    @property
    def counts(self) -> SheddingCounts:
        """How it stands."""
        return SheddingCounts(self._limit, self._present, self._refused, self._stale)

    @property
    def calm(self) -> bool:
        """Whether anybody would be taken on, so that nobody need be told apart."""
        return self._present < self._limit * _CALM

    def admits(self, weight: float, tenant: str) -> bool:
        """Whether one more would be taken on now. Counts as turned away where not."""
        own = self._tenants.get(tenant, 0)
        tenants = len(self._tenants) + (0 if own else 1)
        if decide_arrival(self._present, own, tenants, self._limit, weight):
            return True
        self._refused += 1
        self._turned_away += 1
        return False

    def take(self, tenant: str) -> Arrival:
        """Take one on, unasked. Every arrival leaves, however it ends."""
        self._present = crowd = self._present + 1
        if crowd > self._peak:
            self._peak = crowd
        tenants = self._tenants
        tenants[tenant] = tenants.get(tenant, 0) + 1
        return Arrival(self, tenant, self._monotonic(), crowd)

    def arrive(self, target: str, weight: float, tenant: str) -> Arrival:
        """Take one on. Raises: OverloadedError (NOT_DONE)."""
        if not self.admits(weight, tenant):
            raise self.refusal(target)
        return self.take(tenant)

    def begin(self, target: str, arrival: Arrival) -> float:
        """Its handler is about to begin. Returns the seconds that it waited.

        Raises: OverloadedError (NOT_DONE) for one that has waited too long: whoever
            sent it may have gone, and those behind it are no better off.
        """
        waited_s = self._monotonic() - arrival.at_s
        if waited_s > self._settings.stale_s:
            self._stale += 1
            self._observe(_WORST)
            raise OverloadedError(
                f"{target} had waited for {waited_s:.2f} s when it was to begin, and was not. "
                "This process has more to do than it can. Send it again a little later."
            )
        return waited_s

    def end(self, target: str, arrival: Arrival, *, late: bool, failed: bool) -> None:
        """Its handler has ended: learn from how long it took, and leave.

        Args:
            late: its time was up.
            failed: by a fault; a quick one says nothing of how much this process can do.
        """
        took_s = self._monotonic() - arrival.at_s
        settings = self._settings
        at_ease_s = self._ease.get(target)
        if at_ease_s is None:
            at_ease_s = self._ease[target] = took_s
        ratio = took_s / (settings.tolerance * at_ease_s + settings.wait_s)
        if late or ratio > _WORST:
            ratio = _WORST
        elif not failed and (arrival.crowd <= 1 + self._limit * _AT_EASE or took_s < at_ease_s):
            self._ease[target] = at_ease_s + (took_s - at_ease_s) * _EASE
        if not failed or ratio > 1.0:
            self._observe(ratio)
        arrival.leave()

    def forget(self, tenant: str) -> None:
        """One of a tenant's has left."""
        self._present -= 1
        tenants = self._tenants
        left = tenants[tenant] - 1
        if left:
            tenants[tenant] = left
        else:
            del tenants[tenant]

    def refusal(self, target: str) -> OverloadedError:
        """What one is told that is not taken on."""
        return OverloadedError(
            f"This process has {self._present} messages in hand and more would only make all of "
            f"them late. {target} was not begun. Send it again in a second.",
        )

    def _observe(self, ratio: float) -> None:
        self._sum += ratio
        self._seen = seen = self._seen + 1
        if seen < _ENOUGH:
            return
        now_s = self._monotonic()
        age_s = now_s - self._began_s
        if age_s < _WINDOW_S:
            return
        if age_s <= _LONGEST_WINDOW_S or self._turned_away or seen >= 10 * _ENOUGH:
            self._decide(Window(self._sum / seen, self._peak, self._turned_away))
        self._began_s = now_s
        self._seen = 0
        self._sum = 0.0
        self._peak = self._present
        self._turned_away = 0

    def _decide(self, window: Window) -> None:
        settings = self._settings
        self._limit = decide_limit(self._limit, window, settings)
        if window.slowness > 1.0 and self._limit <= settings.least:
            # So few at once do not slow one another down: the work itself takes longer now.
            for target in self._ease:
                self._ease[target] *= 1.1
