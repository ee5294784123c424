"""When a worker takes its turns, and how much it claims."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.path.pace import decide_ahead, decide_linger_s, decide_pause_s


def pause_s(**fields: Any) -> float | None:
    worker: dict[str, Any] = {
        "busy": True,
        "ended": False,
        "reports": False,
        "hungry": False,
        "full": False,
        "turn_s": 0.004,
        "since_s": 0.001,
    }
    return decide_pause_s(**{**worker, **fields})


def test_a_worker_that_would_stand_still_takes_its_turn_at_once() -> None:
    assert pause_s(busy=False, ended=True, reports=True) == 0
    assert pause_s(busy=False, hungry=True) == 0


def test_without_a_reason_there_is_no_turn() -> None:
    assert pause_s() is None
    assert pause_s(busy=False) is None


def test_one_that_is_given_all_it_asks_for_claims_again_at_once() -> None:
    assert pause_s(hungry=True, full=True) == 0


def test_turns_that_carry_little_take_half_of_the_time_at_most() -> None:
    assert pause_s(hungry=True) == pytest.approx(0.003)
    assert pause_s(ended=True, reports=True) == pytest.approx(0.003)
    assert pause_s(hungry=True, since_s=0.01) == 0


def test_what_has_ended_waits_a_little_for_the_rest_of_its_batch() -> None:
    assert pause_s(ended=True) == pytest.approx(0.039)
    assert pause_s(ended=True, since_s=0.04) == 0


def test_it_waits_longer_where_turns_take_long_but_within_bounds() -> None:
    assert decide_linger_s(0.0001) == pytest.approx(0.02)
    assert decide_linger_s(0.005) == pytest.approx(0.05)
    assert decide_linger_s(3.0) == pytest.approx(0.1)


def test_a_quick_worker_claims_more_each_time_up_to_a_batch() -> None:
    ahead, seen = 32, []
    for _ in range(6):
        ahead = decide_ahead(ahead, 32, 500, done=ahead, seconds=0.001)
        seen.append(ahead)
    assert seen == [64, 128, 256, 500, 500, 500]


def test_a_slow_worker_claims_no_more_than_it_can_begin() -> None:
    assert decide_ahead(500, 32, 500, done=10, seconds=1.0) == 32


@given(
    ahead=st.integers(1, 500),
    concurrency=st.integers(1, 1000),
    batch=st.integers(1, 500),
    done=st.integers(0, 10_000),
    seconds=st.floats(0, 3600),
)
def test_a_claim_is_never_empty_nor_more_than_a_batch(
    ahead: int, concurrency: int, batch: int, done: int, seconds: float
) -> None:
    assert 1 <= decide_ahead(ahead, concurrency, batch, done, seconds) <= batch
