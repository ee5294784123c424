"""What the notifications decide: what a confirmation says, and to whom it goes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from uuid import UUID

from store.orders.contract import OrderConfirmed, PricedLine
from tenfold import Money, Struct

__all__ = ["LISTED_LINES", "Draft", "address_of", "compose_confirmation"]

LISTED_LINES = 30
"""How many lines a mail lists; what is beyond is counted."""

_CUSTOMER = "{customer_id}"
_NOT_LOCAL = re.compile(r"@|\.(?=\.|$)")


class Draft(Struct):
    """A mail before it is sent."""

    id: UUID
    customer_id: str
    order_id: UUID
    to: str
    subject: str
    body: str


def compose_confirmation(event: OrderConfirmed, mail_id: UUID, recipient: str) -> Draft:
    """The mail that tells a customer that an order is on its way.

    Args:
        recipient: the address, in which `{customer_id}` stands for the customer;
            see `address_of`.
    """
    number = str(event.order_id)[-12:]
    body = "\n".join(
        [
            "Thank you for your order. It is paid for, and on its way to you.",
            "",
            *_list(event.lines, event.total.currency),
            "",
            f"Total: {event.total}",
            f"Order: {event.order_id}",
            f"Placed: {event.placed_at:%d %B %Y, %H:%M} UTC",
        ]
    )
    return Draft(
        id=mail_id,
        customer_id=event.customer_id,
        order_id=event.order_id,
        to=address_of(event.customer_id, recipient),
        subject=f"Your order {number} is confirmed",
        body=body,
    )


def address_of(customer_id: str, recipient: str) -> str:
    """The address that a customer's mail goes to.

    Where the recipient is `{customer_id}` alone, customers are known by their
    addresses. Within an address, what may not stand there (RFC 5321, 4.1.2: an
    at sign, and a dot that ends it or follows another) is percent-encoded: whoever
    places an order names its customer, and must not choose another domain.
    """
    if recipient == _CUSTOMER:
        return customer_id
    return recipient.replace(_CUSTOMER, _NOT_LOCAL.sub(_encoded, customer_id))


def _encoded(found: re.Match[str]) -> str:
    return f"%{ord(found[0]):02X}"


def _list(lines: Sequence[PricedLine], currency: str) -> list[str]:
    listed = [
        f"{line.quantity:>6} × {line.name} at {Money.from_minor(line.unit_minor, currency)}"
        for line in lines[:LISTED_LINES]
    ]
    if len(lines) > LISTED_LINES:
        listed.append(f"       and {len(lines) - LISTED_LINES} more")
    return listed
