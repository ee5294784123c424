"""The published face of the payments: what was charged for which order."""

from __future__ import annotations

from enum import Enum
from typing import Protocol
from uuid import UUID

from tenfold import Contract, Event, Instant, Money, Refusal, Struct, query

__all__ = [
    "Payment",
    "PaymentCaptured",
    "PaymentDeclined",
    "PaymentNotFound",
    "PaymentState",
    "Payments",
]


class PaymentState(str, Enum):
    """Where a payment stands. `captured` and `declined` are final.

    `intended`: to be charged. `unknown`: the provider was asked and did not
    answer, so it may or may not have charged; it is asked again by the same key.
    """

    INTENDED = "intended"
    UNKNOWN = "unknown"
    CAPTURED = "captured"
    DECLINED = "declined"


class Payment(Struct):
    """The charge of one order. `reference` is the provider's, `reason` its words for declining."""

    order_id: UUID
    amount: Money
    state: PaymentState
    created_at: Instant
    reference: str | None = None
    reason: str | None = None


class PaymentCaptured(Event, key="order_id"):
    """The provider has charged an order's total."""

    order_id: UUID
    amount: Money


class PaymentDeclined(Event, key="order_id"):
    """The provider will not charge an order."""

    order_id: UUID
    reason: str


class PaymentNotFound(Refusal, status=404):
    """Nothing was to be charged for this order."""

    order_id: UUID


class Payments(Contract, Protocol):
    """What was charged for which order."""

    @query(who="internal", raises=[PaymentNotFound])
    async def get_payment(self, order_id: UUID) -> Payment:
        """The payment of one order."""
        ...

    @query(who="internal")
    async def captured_totals(self) -> list[Money]:
        """The sum of all that was captured, one amount for each currency."""
        ...

    @query(who="internal")
    async def count_unsettled(self) -> int:
        """How many payments are neither captured nor declined."""
        ...
