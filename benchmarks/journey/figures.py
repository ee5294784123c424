"""From the journal of the customers to figures: pure, so that a test can hold it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from benchmarks.journey.record import Asked
from benchmarks.measure import part

__all__ = ["Cost", "Figures", "Move", "Stretch", "decide_failures", "decide_figures", "seen_pause"]


class Stretch(msgspec.Struct, frozen=True):
    """A part of the way, from one moment to another. `pause` is what was declared for it, if so."""

    name: str
    began_s: float
    ended_s: float
    pause: tuple[float, float] | None = None

    def has(self, asked: Asked) -> bool:
        """Whether a request was due in it."""
        return self.began_s <= asked.due_s < self.ended_s

    def excuses(self, asked: Asked) -> bool:
        """Whether it was answered, and turned away before only within the declared pause.

        An answer that came within the pause may be of a request that was sent before it.
        """
        if self.pause is None or not asked.good:
            return False
        began_s, ended_s = self.pause
        return all(began_s <= each.ended_s <= ended_s for each in asked.turned_away)


class Cost(msgspec.Struct, frozen=True):
    """What a phase took of the machine: seconds of processor, and megabytes at its end."""

    cpu_s: float
    servers_cpu_s: float
    rss_mb: float
    servers_mb: float


class Move(msgspec.Struct, frozen=True):
    """A move from one topology to the next: its steps in seconds, and what of it was declared.

    `seen_s` is the pause as customers saw it, and `both_mb` the memory while
    both topologies ran.
    """

    name: str
    steps: dict[str, float]
    declared_s: float
    seen_s: float
    longest_s: float
    both_mb: float

    @property
    def took_s(self) -> float:
        """All of it."""
        return sum(self.steps.values())


class Figures(msgspec.Struct, frozen=True):
    """One stretch in figures. Latencies count from when a request was due to its last answer."""

    name: str
    requests: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    longest_ms: float
    paused: int
    failed: int

    @property
    def availability(self) -> float:
        """The share of requests that were answered as they should be the first time."""
        return 1 - (self.paused + self.failed) / self.requests if self.requests else 0.0


def decide_figures(
    stretch: Stretch, journal: Iterable[Asked], kinds: Sequence[str] = ()
) -> Figures:
    """The figures of one stretch, of all requests or of some kinds."""
    asked = [each for each in journal if stretch.has(each) and (not kinds or each.kind in kinds)]
    away = [each for each in asked if each.turned_away or not each.good]
    paused = sum(stretch.excuses(each) for each in away)
    took = sorted(each.took_s for each in asked if each.good)
    return Figures(
        name=stretch.name,
        requests=len(asked),
        per_s=len(took) / (stretch.ended_s - stretch.began_s),
        p50_ms=part(took, 0.5) * 1000,
        p95_ms=part(took, 0.95) * 1000,
        p99_ms=part(took, 0.99) * 1000,
        longest_ms=part(took, 1.0) * 1000,
        paused=paused,
        failed=len(away) - paused,
    )


def decide_failures(stretches: Sequence[Stretch], journal: Iterable[Asked]) -> list[str]:
    """Every request that failed for a reason that was not declared, by what was said of it."""
    found: Counter[str] = Counter()
    moments: dict[str, tuple[Stretch | None, float]] = {}
    for asked in journal:
        stretch = next((each for each in stretches if each.has(asked)), None)
        excused = stretch is not None and stretch.excuses(asked)
        if (asked.turned_away or not asked.good) and not excused:
            where = stretch.name if stretch is not None else "between the phases"
            why = asked.wrong or asked.turned_away[0].bad
            end = "" if asked.good else ", and was not answered"
            what = f"{where}: {asked.kind} was told: {why}{end}"
            found[what] += 1
            at_s = asked.tries[0].ended_s if asked.tries else asked.due_s
            moments.setdefault(what, (stretch, at_s))
    return [
        f"{count} x {what}; the first {_moment(*moments[what])}"
        for what, count in found.most_common()
    ]


def _moment(stretch: Stretch | None, at_s: float) -> str:
    if stretch is None:
        return "there"
    if stretch.pause is not None and at_s > stretch.pause[1]:
        return f"{at_s - stretch.pause[1]:.2f} s after the declared pause"
    if stretch.pause is not None:
        return f"{stretch.pause[0] - at_s:.2f} s before the declared pause"
    return f"after {at_s - stretch.began_s:.2f} s of {stretch.ended_s - stretch.began_s:.2f}"


def seen_pause(stretch: Stretch, journal: Iterable[Asked]) -> float:
    """For how long customers were turned away: from the first that was, until the last."""
    away = [each for asked in journal if stretch.has(asked) for each in asked.turned_away]
    if not away:
        return 0.0
    return max(each.ended_s for each in away) - min(each.began_s for each in away)
