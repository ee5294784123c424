"""The port of mail: something outside that takes a message to a customer."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from email.message import EmailMessage
from typing import Annotated, Literal, Protocol

import msgspec

from store.notifications.rules import Draft
from tenfold import Struct

__all__ = ["NotificationsSettings", "Post", "SmtpPost"]


class NotificationsSettings(Struct):
    """`[topologies.X.settings.notifications]`.

    `transport = "mailbox"` keeps the mails in the module's own table, where
    `GET /v1/mail` shows them; `"smtp"` sends them as well. `recipient` is the
    address of a customer, with `{customer_id}` in it; that alone where customers
    are known by their addresses.
    """

    transport: Literal["mailbox", "smtp"] = "mailbox"
    recipient: str = "{customer_id}@customers.example"
    sender: str = "Tenfold Store <orders@store.example>"
    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 25
    security: Literal["none", "starttls", "tls"] = "none"
    user: str = ""
    password: str = ""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 15.0


class Post(Protocol):
    """Takes a mail away: at least once, since no mail server answers by key."""

    async def send(self, draft: Draft, key: str) -> None:
        """Hand a mail over; the server has taken it when this returns.

        Args:
            key: the same for every attempt; becomes the Message-ID, by which
                mail programs drop a second copy.
        Raises: OSError, smtplib.SMTPException: it may have been taken.
        """
        ...


class SmtpPost:
    """A `Post` that speaks SMTP (RFC 5321), one connection for each mail."""

    def __init__(self, settings: NotificationsSettings) -> None:
        self._settings = settings

    async def send(self, draft: Draft, key: str) -> None:
        """Hand a mail to the server, in a thread of its own."""
        await asyncio.to_thread(self._blocking, message_of(draft, key, self._settings.sender))

    def _blocking(self, message: EmailMessage) -> None:
        settings = self._settings
        with self._connect() as server:
            if settings.security == "starttls":
                server.starttls(context=ssl.create_default_context())
            if settings.user:
                server.login(settings.user, settings.password)
            server.send_message(message)

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        if settings.security == "tls":
            return smtplib.SMTP_SSL(
                settings.host,
                settings.port,
                timeout=settings.timeout_s,
                context=ssl.create_default_context(),
            )
        return smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_s)


def message_of(draft: Draft, key: str, sender: str) -> EmailMessage:
    """The mail as it travels, with a Message-ID that is the same for every attempt."""
    message = EmailMessage()
    message["From"] = sender
    message["To"] = draft.to
    message["Subject"] = draft.subject
    message["Message-ID"] = f"<{key.replace(':', '.')}@store.example>"
    message.set_content(draft.body)
    return message
