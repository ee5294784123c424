"""The published face of the notifications: the mails that customers get."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from store.orders.contract import CustomerId
from tenfold import Contract, Cursor, Instant, Limit, Page, Struct, query

__all__ = ["Mail", "Notifications"]


class Mail(Struct):
    """A mail that was sent. `body` is plain text."""

    id: UUID
    customer_id: str
    order_id: UUID
    to: str
    subject: str
    body: str
    sent_at: Instant


class Notifications(Contract, Protocol):
    """The mails that customers get: one for each confirmed order."""

    @query("GET /v1/mail", who="operator")
    async def list_mail(
        self,
        customer_id: CustomerId | None = None,
        limit: Limit = 20,
        cursor: Cursor | None = None,
    ) -> Page[Mail]:
        """The mails sent, newest first; with `customer_id`, those to one customer."""
        ...

    @query(who="internal")
    async def count_mail(self) -> int:
        """How many confirmations there are, sent or on their way."""
        ...
