"""How many calls are sent a second time, at the most."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.frames.budget import FLOOR_PER_S, PART, WINDOW_S, RetryBudget, decide_retry


@given(calls=st.integers(0, 100_000), again=st.integers(0, 100_000))
def test_a_fifth_or_the_floor_and_not_both(calls: int, again: int) -> None:
    most = max(PART * calls, FLOOR_PER_S * WINDOW_S)
    assert decide_retry(calls, again) == (again + 1 <= most)


def amplification(per_s: int, failing: float, seconds: int = 60, tries: int = 3) -> float:
    """How many times a service is asked for each call, where so large a part of tries fails."""
    budget, draw = RetryBudget(), random.Random(3)
    sent = 0
    for number in range(per_s * seconds):
        now_s = number / per_s
        budget.note(now_s)
        sent += 1
        for _ in range(tries - 1):
            if draw.random() >= failing or not budget.take(now_s):
                break
            sent += 1
    return sent / (per_s * seconds)


def test_above_a_thousand_calls_a_second_a_service_is_asked_at_most_a_fifth_more() -> None:
    for per_s in (1_000, 3_000):
        assert 1.19 < amplification(per_s, failing=1.0) <= 1.2
    assert 1.09 < amplification(1_000, failing=0.09) < 1.11, "what rarely fails is sent again"


def test_a_service_that_is_hardly_called_may_be_asked_again_all_the_same() -> None:
    assert amplification(2, failing=1.0) == 3.0
    assert amplification(20, failing=1.0) < 1.6


def test_what_was_used_comes_back_when_its_second_has_passed() -> None:
    budget = RetryBudget()
    floor = FLOOR_PER_S * WINDOW_S
    assert sum(budget.take(5.0) for _ in range(2 * floor)) == floor
    assert not budget.take(5.0 + WINDOW_S - 1)
    assert budget.take(5.0 + WINDOW_S)
    assert sum(budget.take(500.0) for _ in range(2 * floor)) == floor
