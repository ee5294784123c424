"""What the payments decide: what an answer means, and when to ask again."""

from __future__ import annotations

from store.payments.contract import PaymentState
from store.payments.provider import Answer, Captured

__all__ = ["LONGEST_DELAY_S", "decide_delay_s", "decide_state"]

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


def decide_delay_s(asked: int) -> float:
    """Seconds to wait before asking again, after `asked` silences: 1, 2, 4 … 60."""
    return min(LONGEST_DELAY_S, 2.0 ** max(0, min(asked, 10) - 1))
