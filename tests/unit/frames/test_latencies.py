"""How long an operation takes: quantiles by buckets, and what counts as late or as a fault."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.frames.answers import decide_fault, decide_given_up, decide_late
from tenfold.adapters.frames.latencies import FEWEST, Latencies
from tenfold.contracts.errors import Outcome
from tenfold.ports.frames import Answered, Failed, Refused


def test_quantiles_are_true_to_a_bucket() -> None:
    latencies, draw = Latencies(), random.Random(4)
    values = [draw.uniform(0.01, 0.03) for _ in range(1_500)]
    for value in values:
        latencies.note(value)
    values.sort()
    assert latencies.usual_s == pytest.approx(values[750], rel=0.2)
    assert latencies.late_s == pytest.approx(values[1_425], rel=0.2)


def test_the_first_answer_tells_what_is_usual_and_many_what_is_late() -> None:
    latencies = Latencies()
    assert latencies.usual_s == latencies.late_s == math.inf
    latencies.note(0.02)
    assert latencies.usual_s == pytest.approx(0.02, rel=0.2)
    assert latencies.late_s == math.inf
    for _ in range(2 * FEWEST):
        latencies.note(0.02)
    assert latencies.late_s == pytest.approx(0.02, rel=0.2)


def test_an_operation_that_becomes_slow_is_known_to_be_after_a_while() -> None:
    latencies = Latencies()
    for _ in range(10_000):
        latencies.note(0.001)
    for _ in range(4_000):
        latencies.note(0.1)
    assert latencies.usual_s == pytest.approx(0.1, rel=0.2)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300))
def test_whatever_is_noted_the_quantiles_are_in_order(values: list[float]) -> None:
    latencies = Latencies()
    for value in values:
        latencies.note(value)
    assert 0 < latencies.usual_s <= latencies.late_s


@given(given_s=st.floats(0.001, 300), usual_s=st.floats(0.0001, 300))
def test_who_gave_too_little_time_is_the_one_at_fault(given_s: float, usual_s: float) -> None:
    assert decide_late(given_s, usual_s) == (given_s >= 4 * usual_s)


def test_where_nothing_is_known_a_second_is_enough() -> None:
    assert decide_late(1.0, math.inf)
    assert not decide_late(0.9, math.inf)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("handle.fault", True),
        ("store.unavailable", True),
        ("admit.overloaded", True),
        ("call.invalid_arguments", False),
        ("admit.not_permitted", False),
        ("admit.rate_limited", False),
        ("admit.key_reused", False),
        ("call.unknown_operation", False),
        ("call.unavailable", False),
        ("call.lost", False),
        ("call.circuit_open", False),
    ],
)
def test_a_fault_is_one_of_who_answered(code: str, fault: bool) -> None:
    failed = Failed(1, code, Outcome.NOT_DONE, "No.")
    assert decide_fault(failed, 10.0, 0.1) is fault


def test_refusals_and_answers_are_no_faults() -> None:
    nothing = msgspec.Raw(b"\xc0")
    assert not decide_fault(Refused(1, "sold_out", nothing), 10.0, 0.1)
    assert not decide_fault(Answered(1, nothing), 10.0, 0.1)


def test_a_deadline_counts_where_there_was_time() -> None:
    failed = Failed(1, "admit.deadline_exceeded", Outcome.NOT_DONE, "Late.")
    assert decide_fault(failed, 10.0, 0.1)
    assert not decide_fault(failed, 0.1, 0.1)


def test_who_gives_up_when_the_time_is_over_was_let_down_though_a_timer_rings_early() -> None:
    assert decide_given_up(0.5, 0.5, 0.1)
    assert decide_given_up(0.4989, 0.5, 0.1)
    assert not decide_given_up(0.49, 0.5, 0.1)
    assert not decide_given_up(0.5, 0.5, 0.2), "it takes longer than that"
