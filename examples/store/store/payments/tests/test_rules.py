"""What the payments decide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.payments.contract import PaymentState
from store.payments.provider import Answer, Captured, Declined
from store.payments.rules import LONGEST_DELAY_S, contradicts, decide_delay_s, decide_state

ANSWERS = st.one_of(
    st.none(), st.just(Captured(reference="r")), st.just(Declined(reason="no funds"))
)


@given(st.lists(ANSWERS, max_size=8))
def test_the_first_answer_counts_and_silence_never_undoes_it(heard: list[Answer | None]) -> None:
    state = PaymentState.INTENDED
    for answer in heard:
        state = decide_state(state, answer) or state
    said = [answer for answer in heard if answer is not None]
    if said:
        captured = isinstance(said[0], Captured)
        assert state is (PaymentState.CAPTURED if captured else PaymentState.DECLINED)
    else:
        assert state is (PaymentState.UNKNOWN if heard else PaymentState.INTENDED)


@pytest.mark.parametrize(
    ("first", "later", "against"),
    [
        (None, Captured(reference="r"), False),
        (Captured(reference="r"), None, False),
        (Captured(reference="r"), Captured(reference="r"), False),
        (Captured(reference="r"), Captured(reference="s"), True),
        (Captured(reference="r"), Declined(reason="no funds"), True),
        (Declined(reason="no funds"), Captured(reference="r"), True),
        (Declined(reason="no funds"), Declined(reason="declined before"), False),
    ],
)
def test_an_answer_that_tells_of_other_money_contradicts_the_first(
    first: Answer | None, later: Answer | None, against: bool
) -> None:
    assert contradicts(first, later) is against


@given(st.integers(0, 10_000))
def test_questions_grow_rarer_up_to_a_bound(asked: int) -> None:
    assert 1 <= decide_delay_s(asked) <= decide_delay_s(asked + 1) <= LONGEST_DELAY_S
