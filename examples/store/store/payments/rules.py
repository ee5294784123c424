"""What the payments decide: what an answer means, and when to ask again."""

from __future__ import annotations

from store.payments.contract import PaymentState
from store.payments.provider import Answer, Captured, Declined

__all__ = ["LONGEST_DELAY_S", "answer_of", "contradicts", "decide_delay_s", "decide_state"]

LONGEST_DELAY_S = 60.0
"""The longest pause between two questions about one payment."""


def decide_state(state: PaymentState, answer: Answer | None) -> PaymentState | None:
    """What a payment becomes by an answer, or by silence (None); None where nothing changes.

    Captured and declined are final: the provider's first answer counts, and a
    repeated one finds the payment settled.
    """
    if state in (PaymentState.CAPTURED, PaymentState.DECLINED):
        return None
    if answer is None:
        return PaymentState.UNKNOWN
    return PaymentState.CAPTURED if isinstance(answer, Captured) else PaymentState.DECLINED


def answer_of(state: PaymentState, reference: str | None, reason: str | None) -> Answer | None:
    """The answer by which a payment was settled; None where it is open."""
    if state is PaymentState.CAPTURED:
        return Captured(reference=reference or "")
    return Declined(reason=reason or "") if state is PaymentState.DECLINED else None


def contradicts(stands: Answer | None, answer: Answer | None) -> bool:
    """Whether a later answer under the same key tells of other money than the one that stands.

    A second charge has another number of the provider's; why it declines it
    may say in other words.
    """
    if stands is None or answer is None:
        return False
    if isinstance(stands, Declined) and isinstance(answer, Declined):
        return False
    return stands != answer


def decide_delay_s(asked: int) -> float:
    """Seconds to wait before asking again, after `asked` silences: 1, 2, 4 … 60."""
    return min(LONGEST_DELAY_S, 2.0 ** max(0, min(asked, 10) - 1))
