"""Decisions of a worker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenfold.path.attempts import (
    Dead,
    Retry,
    decide_batch,
    decide_begin,
    decide_retry,
    error_text,
)
from tenfold.path.declare import Background
from tenfold.ports.records import Claimed


def claimed(
    i: int = 1,
    *,
    lane: str | None = None,
    attempt: int = 1,
    handler: str = "work",
    suspect: bool = False,
) -> Claimed:
    return Claimed(
        id=i,
        message_id=str(i),
        handler=handler,
        generation=1,
        lane=lane,
        attempt=attempt,
        alone=suspect,
        suspect=suspect,
        body=b"",
    )


@given(st.lists(st.sampled_from([None, "a", "b", "c"]), max_size=30))
def test_runs_hold_every_entry_once_and_keep_each_lane_in_order(lanes: list[str | None]) -> None:
    entries = [claimed(i, lane=lane) for i, lane in enumerate(lanes)]
    runs = decide_batch(entries)
    assert sorted(e.id for run in runs for e in run) == list(range(len(lanes)))
    for run in runs:
        assert [e.id for e in run] == sorted(e.id for e in run)
        assert len({e.lane for e in run}) == 1
        assert run[0].lane is not None or len(run) == 1
    named = [run[0].lane for run in runs if run[0].lane is not None]
    assert len(named) == len(set(named))


@given(st.integers(1, 99), st.floats(0, 1, exclude_max=True), st.floats(0, 3600))
def test_a_retry_comes_within_the_doubled_backoff(
    attempt: int, jitter: float, backoff_s: float
) -> None:
    background = Background(attempts=100, backoff_s=backoff_s)
    after = decide_retry(claimed(attempt=attempt), background, jitter)
    assert isinstance(after, Retry)
    assert 0 <= after.delay_s <= min(backoff_s * 2.0 ** (attempt - 1), 3600.0)


def test_the_last_attempt_that_fails_is_a_dead_letter() -> None:
    background = Background(attempts=3)
    assert isinstance(decide_retry(claimed(attempt=2), background, 0.5), Retry)
    assert decide_retry(claimed(attempt=3), background, 0.5) == Dead(holds=False)


def test_a_projections_dead_letter_holds_its_lane() -> None:
    background = Background(attempts=1)
    assert decide_retry(claimed(handler="view.follow"), background, 0.5) == Dead(holds=True)


def test_an_entry_whose_last_attempt_was_lost_is_dead_before_it_begins() -> None:
    background = Background(attempts=3)
    assert decide_begin(claimed(attempt=3, suspect=True), background) is None
    assert decide_begin(claimed(attempt=4, suspect=True), background) == Dead(holds=False)


def test_an_entry_that_was_lost_in_a_batch_only_is_begun() -> None:
    assert decide_begin(claimed(attempt=2), Background(attempts=1)) is None


def test_an_error_is_kept_with_its_class_and_within_bounds() -> None:
    assert error_text(ValueError("no")) == "ValueError: no"
    assert len(error_text(ValueError("x" * 9999))) == 2000
