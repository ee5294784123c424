"""What the payments decide."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from store.payments.contract import PaymentState
from store.payments.provider import Answer, Captured, Declined
from store.payments.rules import LONGEST_DELAY_S, decide_delay_s, decide_state

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


@given(st.integers(0, 10_000))
def test_questions_grow_rarer_up_to_a_bound(asked: int) -> None:
    assert 1 <= decide_delay_s(asked) <= decide_delay_s(asked + 1) <= LONGEST_DELAY_S
