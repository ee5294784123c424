"""Who is asked, who is left alone, and for how long: decided without any connection."""

from __future__ import annotations

import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.frames.balancing import (
    MOST_FAULTS_IN_A_ROW,
    RETURN_S,
    TAU_S,
    Standing,
    decide_choice,
    decide_ejection,
    decide_slowness,
    decide_weight,
)
from tenfold.adapters.frames.latencies import Latencies
from tests.unit.frames.simulated import Wait, percentile, simulate

SECONDS = st.floats(0, 1_000)


def usual(seconds: float) -> Latencies:
    """Those of an operation that takes so long."""
    latencies = Latencies()
    latencies.note(seconds)
    return latencies


SLOW = st.floats(0.01, 1_000)


@given(known=SLOW, observed=SLOW, elapsed_s=SECONDS)
def test_a_rise_counts_at_once_and_a_fall_little_by_little(
    known: float, observed: float, elapsed_s: float
) -> None:
    found = decide_slowness(known, observed, elapsed_s)
    if observed >= known:
        assert found == observed
    else:
        assert observed <= found <= known
        assert found <= decide_slowness(known, observed, elapsed_s / 2) * (1 + 1e-9)


@given(now_s=SECONDS, back_s=SECONDS)
def test_one_that_comes_back_gets_more_and_more(now_s: float, back_s: float) -> None:
    weight = decide_weight(now_s, back_s)
    assert (weight == 0.0) == (now_s < back_s)
    assert (weight == 1.0) == (now_s - back_s >= RETURN_S)
    assert weight <= decide_weight(now_s + 1, back_s)


@given(
    counts=st.lists(st.integers(0, 20), min_size=2, max_size=2),
    slow=st.lists(SLOW, min_size=2, max_size=2),
    load=st.floats(0, 50),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_the_cheaper_of_two_is_asked(
    counts: list[int], slow: list[float], load: float, chance: float
) -> None:
    standings = [Standing(), Standing()]
    for standing, outstanding, slowness in zip(standings, counts, slow, strict=True):
        standing.answered(0.0, slowness)
        for _ in range(outstanding):
            standing.begin(0.0, usual(1.0))
    one, other = standings
    chosen = decide_choice(one, other, 0.0, load, chance)
    assert chosen.cost_at(0.0, load) == min(one.cost_at(0.0, load), other.cost_at(0.0, load))


def test_of_two_that_are_as_quick_the_less_busy_is_cheaper_and_of_two_as_busy_the_quicker() -> None:
    idle, busy, slow = Standing(), Standing(), Standing()
    busy.begin(0.0, usual(1.0))
    slow.answered(0.0, 1.3)
    assert idle.cost_at(0.0, 3.0) < busy.cost_at(0.0, 3.0)
    assert idle.cost_at(0.0, 3.0) < slow.cost_at(0.0, 3.0)


def test_small_differences_leave_the_choice_to_chance() -> None:
    """Else who calls one after the other would ask only the one that was quicker once."""
    quick, unknown, slower = Standing(), Standing(), Standing()
    quick.answered(0.0, 0.5)
    slower.answered(0.0, 1.2)
    for one in (quick, unknown, slower):
        for other in (quick, unknown, slower):
            assert decide_choice(one, other, 0.0, 0.0, 0.5) is one


def test_an_idle_one_that_is_ten_times_slower_is_dearer_than_one_as_busy_as_all_others() -> None:
    slow, quick = Standing(), Standing()
    slow.answered(0.0, 10.0)
    for _ in range(10):
        quick.begin(0.0, usual(1.0))
    assert quick.cost_at(0.0, 10.0) < slow.cost_at(0.0, 10.0) / 4


def test_one_that_lets_wait_is_known_to_be_slow_before_it_answers() -> None:
    standing = Standing()
    standing.answered(0.0, 1.0)
    usually = Latencies()
    first = standing.begin(0.0, usually)
    assert standing.slowness_at(0.1) == 1.0, "nobody knows how long it takes"
    usually.note(0.01)
    standing.begin(0.08, usually)
    assert standing.slowness_at(0.1) == pytest.approx(10, rel=0.2)
    standing.end(first)
    assert standing.slowness_at(0.1) == pytest.approx(2, rel=0.2)


def test_one_that_waits_for_an_outcome_is_slow_only_after_that_and_hides_nobody() -> None:
    standing, usually = Standing(), usual(0.01)
    settling = standing.begin(0.0, usually, 1.0)
    assert standing.outstanding == 1
    assert standing.slowness_at(0.9) == 1.0
    later = standing.begin(0.5, usually)
    assert standing.slowness_at(0.6) == pytest.approx(10, rel=0.2)
    standing.end(later)
    assert standing.slowness_at(0.6) == 1.0
    assert standing.slowness_at(1.1) == pytest.approx(10, rel=0.2)
    standing.end(settling)
    assert standing.outstanding == 0


def test_one_that_may_wait_long_for_its_outcome_hides_nobody_who_may_wait_less() -> None:
    standing, usually = Standing(), usual(0.01)
    long, short = standing.begin(0.0, usually, 60.0), standing.begin(0.0, usually, 1.0)
    assert standing.slowness_at(1.1) == pytest.approx(10, rel=0.2)
    standing.end(short)
    assert standing.slowness_at(1.1) == 1.0
    standing.end(long)
    assert standing.outstanding == 0


def test_a_word_that_is_no_fault_ends_a_row_of_faults_and_says_nothing_of_speed() -> None:
    standing = Standing()
    standing.answered(0.0, 2.0)
    for _ in range(MOST_FAULTS_IN_A_ROW - 1):
        standing.faulted()
    share = standing.share
    standing.did_not_fail(0.0)
    assert (standing.in_a_row, standing.slowness) == (0, 2.0)
    assert standing.share < share


def test_a_peak_fades_so_that_it_is_tried_again() -> None:
    standing = Standing()
    standing.answered(0.0, 10.0)
    assert standing.slowness_at(0.0) == 10.0
    assert 1.0 < standing.slowness_at(10 * TAU_S) < 1.01


def test_who_gave_up_tells_only_that_it_took_so_long_at_the_least() -> None:
    standing = Standing()
    standing.waited_for(0.0, 0.5)
    assert standing.slowness == 1.0
    standing.waited_for(0.0, 7.0)
    assert standing.slowness == 7.0


def test_what_is_always_given_up_stays_as_slow_as_it_was_known_to_be() -> None:
    standing = Standing()
    standing.answered(0.0, 10.0)
    for round_ in range(1, 20):  # each hedged, and given up when the other had answered
        standing.waited_for(round_ * TAU_S, 2.5)
    assert standing.slowness_at(19 * TAU_S) == 10.0
    standing.waited_for(20 * TAU_S, 0.9)
    assert standing.slowness_at(20 * TAU_S) < 5.0, "one given up so early tells nothing"
    standing.answered(21 * TAU_S, 1.0)
    assert standing.slowness_at(21 * TAU_S) < 5.0, "an answer does"


def test_a_fault_is_not_taken_for_a_quick_answer() -> None:
    standing = Standing()
    standing.answered(0.0, 2.0)
    standing.faulted()
    assert standing.slowness == 2.0


def faulted(times: int) -> Standing:
    standing = Standing()
    for _ in range(times):
        standing.faulted()
    return standing


def test_five_faults_in_a_row_are_enough() -> None:
    others = [Standing() for _ in range(3)]
    assert decide_ejection(faulted(MOST_FAULTS_IN_A_ROW - 1), others, 0.0) is None
    assert decide_ejection(faulted(MOST_FAULTS_IN_A_ROW), others, 0.0) == 5.0


def often(share: float, calls: int = 200) -> Standing:
    """One that fails for a part of its calls, never five times in a row."""
    standing, draw = Standing(), random.Random(1)
    for _ in range(calls):
        if draw.random() < share and standing.in_a_row < MOST_FAULTS_IN_A_ROW - 1:
            standing.faulted()
        else:
            standing.answered(0.0, 1.0)
    return standing


def test_one_that_fails_often_is_left_alone_unless_the_others_do_too() -> None:
    assert decide_ejection(often(0.8), [often(0.0), often(0.0)], 0.0) is not None
    assert decide_ejection(often(0.8), [often(0.7), often(0.7)], 0.0) is None
    assert decide_ejection(often(0.1), [often(0.0), often(0.0)], 0.0) is None
    assert decide_ejection(often(0.8, calls=8), [often(0.0), often(0.0)], 0.0) is None


def test_the_time_grows_each_time_and_is_forgotten() -> None:
    standing, others = Standing(), [Standing()]
    times = []
    now_s = 0.0
    for _ in range(20):
        for _ in range(MOST_FAULTS_IN_A_ROW):
            standing.faulted()
        seconds = decide_ejection(standing, others, now_s)
        assert seconds is not None
        standing.eject(now_s, seconds)
        assert decide_ejection(standing, others, now_s) is None, "it is out already"
        times.append(seconds)
        now_s += seconds
    assert times[:3] == [5.0, 10.0, 15.0]
    assert max(times) == 60.0
    standing.answered(now_s + 61, 1.0)
    assert standing.ejections == 0


@given(total=st.integers(1, 12), failing=st.integers(1, 12))
def test_at_most_half_are_left_alone(total: int, failing: int) -> None:
    standings = [Standing() for _ in range(total)]
    for standing in standings[:failing]:
        for _ in range(MOST_FAULTS_IN_A_ROW):
            standing.faulted()
        others = [each for each in standings if each is not standing]
        seconds = decide_ejection(standing, others, 0.0)
        if seconds is not None:
            standing.eject(0.0, seconds)
    assert sum(each.is_out(0.0) for each in standings) == min(failing, total, total // 2)


def test_one_that_comes_back_is_asked_for_its_part() -> None:
    draw = random.Random(2)
    well, back = Standing(), Standing()
    back.eject(0.0, 5.0)

    def part(now_s: float) -> float:
        chosen = [decide_choice(back, well, now_s, 0, draw.random()) is back for _ in range(2_000)]
        return sum(chosen) / len(chosen)

    assert part(4.9) == 0.0
    assert 0.05 < part(5.1) < 0.15
    assert 0.4 < part(10.0) < 0.6
    assert part(15.0) == 1.0, "a tie, which goes to the first"


def even(mean_s: float) -> Wait:
    return lambda draw: draw.uniform(0.5 * mean_s, 1.5 * mean_s)


@pytest.mark.parametrize(("usual_s", "at_once"), [(0.02, 8), (0.1, 16)])
def test_a_replica_ten_times_slower_does_not_show_at_the_99th_percentile(
    usual_s: float, at_once: int
) -> None:
    """At 40 % of what four replicas can do. By outstanding calls alone it is eight times."""
    ratios = []
    for seed in range(3):
        healthy, one_slow = (
            percentile(
                simulate(
                    [even(usual_s), even(usual_s), even(usual_s), even(last_s)],
                    per_s=0.4 * 4 * at_once / usual_s,
                    seconds=2_500 * usual_s / at_once,
                    at_once=at_once,
                    seed=seed,
                ),
                0.99,
            )
            for last_s in (usual_s, 10 * usual_s)
        )
        ratios.append(one_slow / healthy)
    assert median(ratios) <= 1.5, ratios


def test_nearly_no_call_goes_to_an_idle_process_that_is_ten_times_slower() -> None:
    """Others have six in hand each. By slowness times outstanding calls it is 0.5 % of them."""
    took = simulate(
        [even(0.1), even(0.1), even(0.1), even(1.0)], per_s=256, seconds=20.0, at_once=16, seed=1
    )
    assert sum(each > 0.4 for each in took) < 0.003 * len(took)
