"""Shedding: the limit, who is turned away first, and a simulated process under load."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.contracts.errors import Outcome, OverloadedError
from tenfold.path.shedding import (
    WEIGHTS,
    Shedder,
    SheddingSettings,
    Window,
    decide_arrival,
    decide_limit,
)
from tenfold.testing.clock import HeldClock

SETTINGS = SheddingSettings()
WINDOWS = st.builds(
    Window,
    slowness=st.floats(0, 3),
    peak=st.integers(0, 2000),
    refused=st.integers(0, 1000),
)


@given(limit=st.floats(SETTINGS.least, SETTINGS.most), window=WINDOWS)
def test_the_limit_stays_within_its_bounds_and_moves_the_right_way(
    limit: float, window: Window
) -> None:
    after = decide_limit(limit, window, SETTINGS)
    assert SETTINGS.least <= after <= SETTINGS.most
    if window.slowness > 1:
        assert after <= limit
    if window.slowness > 0.8 or (not window.refused and window.peak < 0.9 * limit):
        assert after <= limit  # neither while it is slow nor where nobody came near it
    if window.slowness <= 1:
        assert after >= limit


@given(
    total=st.integers(0, 500),
    own=st.integers(0, 500),
    tenants=st.integers(1, 20),
    limit=st.floats(1, 200),
)
def test_room_is_bounded_and_who_matters_more_is_admitted_wherever_less_is(
    total: int, own: int, tenants: int, limit: float
) -> None:
    answers = [decide_arrival(total, own, tenants, limit, w) for w in sorted(WEIGHTS.values())]
    assert answers == sorted(answers)
    if total >= 2 * max(WEIGHTS.values()) * limit:
        assert not any(answers)
    if total < limit * min(WEIGHTS.values()):
        assert all(answers)


def test_one_tenants_flood_leaves_the_others_their_share() -> None:
    shedder = Shedder(SheddingSettings(first=20), HeldClock())
    taken = 0
    while shedder.admits(1.0, "flood"):
        shedder.take("flood")
        taken += 1
    assert taken == 20
    small = 0
    while shedder.admits(1.0, "small"):
        shedder.take("small")
        small += 1
    assert small == 10  # an even share of two
    assert not shedder.admits(1.0, "flood")
    assert shedder.counts.refused == 3


def test_what_matters_is_taken_on_where_the_rest_is_turned_away() -> None:
    shedder = Shedder(SheddingSettings(first=10), HeldClock())
    for _ in range(5):
        shedder.arrive("a.b", WEIGHTS["background"], "main")
    with pytest.raises(OverloadedError):
        shedder.arrive("a.b", WEIGHTS["background"], "main")
    for _ in range(5):
        shedder.arrive("a.b", WEIGHTS["normal"], "main")
    with pytest.raises(OverloadedError) as caught:
        shedder.arrive("a.b", WEIGHTS["normal"], "main")
    assert caught.value.outcome is Outcome.NOT_DONE
    for _ in range(10):
        shedder.arrive("a.b", WEIGHTS["critical"], "main")
    with pytest.raises(OverloadedError):
        shedder.arrive("a.b", WEIGHTS["critical"], "main")


def test_whoever_leaves_makes_room_once() -> None:
    shedder = Shedder(SheddingSettings(first=4), HeldClock())
    arrivals = [shedder.arrive("a.b", 1.0, "main") for _ in range(4)]
    arrivals[0].leave()
    arrivals[0].leave()
    assert shedder.counts.present == 3
    shedder.arrive("a.b", 1.0, "main")
    with pytest.raises(OverloadedError):
        shedder.arrive("a.b", 1.0, "main")


def test_one_that_has_waited_too_long_is_not_begun() -> None:
    clock = HeldClock()
    shedder = Shedder(SETTINGS, clock)
    arrival = shedder.take("main")
    clock.jump(SETTINGS.stale_s + 0.1)
    with pytest.raises(OverloadedError, match="had waited"):
        shedder.begin("a.b", arrival)
    assert shedder.counts.stale == 1


class Process:
    """A process with one CPU, work that takes `work_s` of it, and an event loop.

    In each turn of the loop what has arrived since is taken on or refused, and
    all that was taken on is worked; refusing costs as well.
    """

    REFUSAL_S = 0.000_03

    def __init__(self, work_s: float = 0.002, settings: SheddingSettings = SETTINGS) -> None:
        self.clock = HeldClock()
        self.work_s = work_s
        self.shedder = Shedder(settings, self.clock)
        self.faults = 0.0

    def run(self, per_s: float, seconds: float) -> tuple[float, float]:
        """Goodput a second and the longest latency, from the moment at which each was due."""
        begun = now = self.clock.monotonic()
        sent, worst, done = 0, 0.0, 0
        while now < begun + seconds:
            taken = deque()
            while (due := begun + sent / per_s) <= now:
                sent += 1
                if self.shedder.admits(1.0, "main"):
                    taken.append((due, self.shedder.take("main")))
                else:
                    self.clock.jump(self.REFUSAL_S)
            for due, arrival in taken:
                self.shedder.begin("a.b", arrival)
                self.clock.jump(self.work_s)
                worst = max(worst, self.clock.monotonic() - due)
                self.shedder.end("a.b", arrival, late=False, failed=False)
                done += 1
            if not taken:
                self.clock.jump(max(0.0, due - self.clock.monotonic()) + 1e-6)
            now = self.clock.monotonic()
        return done / seconds, worst


@pytest.mark.parametrize("times", [1.2, 2, 5, 10])
def test_goodput_holds_at_many_times_what_a_process_can_do(times: float) -> None:
    process = Process()
    peak, _ = process.run(450, 3)
    process.run(500 * times, 3)
    goodput, worst = process.run(500 * times, 5)
    assert goodput > 0.85 * peak
    assert worst < 0.5


def test_after_the_load_nothing_is_turned_away() -> None:
    process = Process()
    process.run(250, 1)
    process.run(5000, 5)
    process.run(250, 0.5)
    refused = process.shedder.counts.refused
    goodput, worst = process.run(250, 5)
    assert goodput == pytest.approx(250, rel=0.02)
    assert process.shedder.counts.refused == refused
    assert worst < 0.05


def test_work_that_takes_longer_from_now_on_is_learnt() -> None:
    """A limit that holds a process to what it once could do would never let go again."""
    process = Process()
    process.run(400, 3)
    process.work_s = 0.2
    process.run(4, 30)
    refused = process.shedder.counts.refused
    goodput, _ = process.run(4, 10)
    assert goodput == pytest.approx(4, rel=0.1)
    assert process.shedder.counts.refused == refused


def test_quick_faults_do_not_let_the_limit_grow_nor_shrink() -> None:
    clock = HeldClock()
    shedder = Shedder(SheddingSettings(first=20), clock)
    for _ in range(200):
        arrivals = [shedder.arrive("a.b", 1.0, "main") for _ in range(20)]
        clock.jump(0.001)
        for arrival in arrivals:
            shedder.end("a.b", arrival, late=False, failed=True)
    assert shedder.counts.limit == 20


def test_what_runs_out_of_time_shrinks_the_limit() -> None:
    clock = HeldClock()
    shedder = Shedder(SheddingSettings(first=20), clock)
    for _ in range(20):
        arrivals = [shedder.take("main") for _ in range(10)]
        clock.jump(0.2)
        for arrival in arrivals:
            shedder.end("a.b", arrival, late=True, failed=False)
    assert shedder.counts.limit == SETTINGS.least
