"""The circuit breaker: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.frames.breaker import Breaker, BreakerState, decide_open, decide_open_s


@given(calls=st.integers(0, 1_000), faults=st.integers(0, 1_000))
def test_it_opens_for_half_of_twenty_or_more(calls: int, faults: int) -> None:
    assert decide_open(calls, faults) == (calls >= 20 and 2 * faults >= calls)


@given(failed=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_it_is_open_for_longer_each_time_up_to_a_bound(failed: int, chance: float) -> None:
    assert 0.75 <= decide_open_s(failed, chance) <= 37.5
    assert decide_open_s(failed, chance) <= decide_open_s(failed + 1, chance)


def called(breaker: Breaker, now_s: float, *, fault: bool) -> bool:
    """Call once. Returns: whether it was let through."""
    if breaker.refuses_for(now_s):
        return False
    breaker.note(now_s, fault, 0.5, probe=breaker.state is not BreakerState.CLOSED)
    return True


def opened(now_s: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(20):
        called(breaker, now_s, fault=True)
    assert breaker.state is BreakerState.OPEN
    return breaker


def test_open_it_says_for_how_long() -> None:
    breaker = opened()
    assert breaker.refuses_for(0.25) == 0.75


def test_one_probe_at_a_time_and_its_answer_closes_it() -> None:
    breaker = opened()
    assert breaker.refuses_for(1.0) == 0.0
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.refuses_for(1.0) > 0.0, "there is a probe under way"
    breaker.note(1.1, False, 0.5, probe=True)
    assert breaker.state is BreakerState.CLOSED
    assert called(breaker, 1.1, fault=True)
    assert breaker.state is BreakerState.CLOSED, "what was before is forgotten"


def test_a_probe_that_fails_opens_it_for_longer() -> None:
    breaker = opened()
    assert called(breaker, 1.0, fault=True)
    assert breaker.refuses_for(1.0) == 2.0
    assert called(breaker, 3.0, fault=True)
    assert breaker.refuses_for(3.0) == 4.0
    assert called(breaker, 7.0, fault=False)
    for _ in range(20):
        called(breaker, 7.0, fault=True)
    assert breaker.refuses_for(7.0) == 1.0, "a success begins again with a second"


def test_a_probe_that_says_nothing_leaves_its_place_to_another() -> None:
    breaker = opened()
    assert not breaker.refuses_for(1.0)
    breaker.forget(1.2, probe=True)
    assert not breaker.refuses_for(1.2)


def test_answers_to_what_was_sent_before_do_not_close_it() -> None:
    breaker = opened()
    breaker.note(0.1, False, 0.5, probe=False)
    assert breaker.refuses_for(0.1) > 0.0


def test_faults_of_long_ago_do_not_count() -> None:
    breaker = Breaker()
    for _ in range(19):
        called(breaker, 0.0, fault=True)
    for _ in range(10):
        called(breaker, 11.0, fault=False)
    called(breaker, 11.0, fault=True)
    assert breaker.state is BreakerState.CLOSED


def test_faults_of_the_window_before_do() -> None:
    breaker = Breaker()
    for _ in range(19):
        called(breaker, 4.9, fault=True)
    called(breaker, 10.0, fault=True)
    assert breaker.state is BreakerState.OPEN


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=200))
def test_whatever_happens_it_lets_somebody_through_within_its_longest_time(
    history: list[tuple[float, bool]],
) -> None:
    breaker, now_s = Breaker(), 0.0
    for step_s, fault in history:
        now_s += step_s
        called(breaker, now_s, fault=fault)
    assert called(breaker, now_s + 40, fault=False)
    assert breaker.state is BreakerState.CLOSED
