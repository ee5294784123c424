"""What a confirmation says, and how it travels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest

from store.notifications.post import NotificationsSettings, SmtpPost, message_of
from store.notifications.rules import LISTED_LINES, compose_confirmation
from store.orders.contract import OrderConfirmed, PricedLine
from tenfold import Money


def confirmed(lines: int) -> OrderConfirmed:
    return OrderConfirmed(
        order_id=UUID(int=5),
        customer_id="17850",
        lines=[
            PricedLine(
                product_id=UUID(int=n),
                sku=f"S{n}",
                name=f"Lantern {n}",
                quantity=n + 1,
                unit_minor=255,
            )
            for n in range(lines)
        ],
        total=Money.from_minor(255, "GBP"),
        placed_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
    )


def test_a_confirmation_tells_lines_total_and_order() -> None:
    draft = compose_confirmation(confirmed(2), UUID(int=9), "{customer_id}@customers.example")
    assert draft.to == "17850@customers.example"
    assert "2 × Lantern 1 at 2.55 GBP" in draft.body
    assert "Total: 2.55 GBP" in draft.body
    assert str(UUID(int=5)) in draft.body


@pytest.mark.parametrize(
    ("customer_id", "recipient", "to"),
    [
        ("17850", "{customer_id}@customers.example", "17850@customers.example"),
        ("v@example.org", "{customer_id}@customers.example", "v%40example.org@customers.example"),
        ("a.b+c", "{customer_id}@customers.example", "a.b+c@customers.example"),
        ("a..b.", "{customer_id}@customers.example", "a%2E.b%2E@customers.example"),
        ("v@example.org", "{customer_id}", "v@example.org"),
        ("v@example.org", "shop@store.example", "shop@store.example"),
    ],
)
def test_every_customer_has_an_address_that_a_mail_can_travel_to(
    customer_id: str, recipient: str, to: str
) -> None:
    event = msgspec.structs.replace(confirmed(1), customer_id=customer_id)
    draft = compose_confirmation(event, UUID(int=9), recipient)
    assert draft.to == to
    assert message_of(draft, "mail-9", "shop@store.example")["To"].addresses[0].addr_spec == to


def test_a_long_order_is_cut_and_says_so() -> None:
    draft = compose_confirmation(confirmed(LISTED_LINES + 7), UUID(int=9), "x")
    assert draft.body.count("Lantern") == LISTED_LINES
    assert "and 7 more" in draft.body


def test_a_mail_has_the_same_id_for_every_attempt() -> None:
    draft = compose_confirmation(confirmed(1), UUID(int=9), "a@b.example")
    first, second = (message_of(draft, "mail-9", "shop@store.example") for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == "<mail-9@store.example>"


class _Server:
    """A mail server that takes one message."""

    def __init__(self) -> None:
        self.taken = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                self.taken = await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        await writer.drain()
        writer.close()


@pytest.mark.anyio
async def test_smtp_hands_the_mail_to_a_server() -> None:
    taking = _Server()
    server = await asyncio.start_server(taking.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    settings = NotificationsSettings(transport="smtp", port=port, timeout_s=5)
    draft = compose_confirmation(confirmed(1), UUID(int=9), "a@b.example")
    await SmtpPost(settings).send(draft, "mail-9")
    server.close()
    assert b"To: a@b.example" in taking.taken
    assert b"Message-ID: <mail-9@store.example>" in taking.taken
