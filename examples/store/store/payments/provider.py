"""The port of a payment provider: an outside party that charges customers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from tenfold import Money, Struct

__all__ = ["Answer", "Captured", "Charge", "Declined", "PaymentProvider", "ProviderSilentError"]


class Charge(Struct):
    """What is to be charged. `key` is the same however often the provider is asked."""

    key: str
    order_id: UUID
    customer_id: str
    amount: Money


class Captured(Struct, tag="captured"):
    """The provider has the money. `reference` is its own number for it."""

    reference: str


class Declined(Struct, tag="declined"):
    """The provider will not charge, now or later under this key. `reason` is its own word."""

    reason: str


Answer = Captured | Declined


class ProviderSilentError(Exception):
    """The provider gave no answer that can be relied on: it may have charged, or not.

    Ask again under the same key; never under another.
    """


class PaymentProvider(Protocol):
    """Charges once for each key, and tells what it did when it is asked again."""

    async def capture(self, charge: Charge) -> Sequence[Answer]:
        """Charge, or tell what became of the charge with this key.

        Returns: at least one answer. A provider that is not sure of having been
        heard repeats itself, and every answer of one key is the same.
        Raises: ProviderSilentError (MAYBE_DONE).
        """
        ...

    async def find(self, key: str) -> Answer | None:
        """What became of the charge with this key; None where the provider never saw it.

        Raises: ProviderSilentError.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds; exchanges under way end as silent."""
        ...
