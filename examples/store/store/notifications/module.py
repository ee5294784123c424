"""The notifications' handlers."""

from __future__ import annotations

from typing import final
from uuid import UUID

from store.notifications import rules, tables
from store.notifications.contract import Mail, Notifications
from store.notifications.post import NotificationsSettings
from store.notifications.rules import Draft
from store.orders.contract import OrderConfirmed
from tenfold import Database, Page, decode_cursor, encode_cursor, job, new_id, now, subscribe

__all__ = ["NotificationsModule"]

_LAST = UUID(int=2**128 - 1)


@final
class NotificationsModule(Notifications):
    """The mails that customers get: one for each confirmed order."""

    db: Database
    settings: NotificationsSettings

    async def list_mail(
        self, customer_id: str | None = None, limit: int = 20, cursor: str | None = None
    ) -> Page[Mail]:
        """The mails sent, newest first; with `customer_id`, those to one customer."""
        before = _LAST if cursor is None else decode_cursor(cursor, UUID)[0]
        most = limit + 1
        if customer_id is None:
            found = await self.db.all(tables.LIST_MAIL, before=before, most=most, into=Mail)
        else:
            found = await self.db.all(
                tables.LIST_MAIL_OF, before=before, most=most, customer_id=customer_id, into=Mail
            )
        items = found[:limit]
        return Page(items=items, next=encode_cursor(items[-1].id) if len(found) > limit else None)

    async def count_mail(self) -> int:
        """How many confirmations there are, sent or on their way."""
        count: int = await self.db.value(tables.COUNT_MAIL)
        return count

    @subscribe
    async def confirm(self, event: OrderConfirmed) -> None:
        """Write the customer's confirmation; the mailbox has it with the commit."""
        draft = rules.compose_confirmation(event, new_id(), self.settings.recipient)
        by_mailbox = self.settings.transport == "mailbox"
        added = await self.db.execute(
            tables.ADD_MAIL,
            id=draft.id,
            customer_id=draft.customer_id,
            order_id=draft.order_id,
            to=draft.to,
            subject=draft.subject,
            body=draft.body,
            sent_at=now() if by_mailbox else None,
        )
        if added and not by_mailbox:
            self.send.enqueue(draft.id)

    @job(attempts=12, timeout_s=90, backoff_s=2)
    async def send(self, mail_id: UUID) -> None:
        """Hand a mail to the mail server, and note that it was taken."""
        from store.notifications.post import SmtpPost

        draft = await self.db.outside.one(tables.GET_UNSENT, id=mail_id, into=Draft)
        if draft is None:
            return
        await SmtpPost(self.settings).send(draft, f"mail-{mail_id}")
        await self.db.execute(tables.MARK_SENT, id=mail_id, sent_at=now())
