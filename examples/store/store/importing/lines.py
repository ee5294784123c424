"""Decide, for one record of the file, whether it is taken as an order line or why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum

import msgspec

from store.catalog.contract import MAX_PRICE_MINOR, ProductName, Sku
from store.inventory.contract import Quantity
from store.orders.contract import CustomerId, InvoiceNo
from tenfold import Money, Struct

__all__ = [
    "COLUMNS",
    "CURRENCY",
    "Columns",
    "NotSuchAFileError",
    "Reason",
    "TakenLine",
    "classify",
    "locate_columns",
]

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)
CURRENCY = "GBP"
"""The currency of the files: they name none, and are a British shop's."""

_MAX_PRICE = Decimal(MAX_PRICE_MINOR).scaleb(-2)
_WHOLE = re.compile(r"\+?[0-9]{1,40}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})", re.ASCII)
_MOMENT = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4}) (\d{1,2}):(\d{2})", re.ASCII)


class NotSuchAFileError(Exception):
    """The file cannot be imported, and nothing was; the message says why."""


class Reason(str, Enum):
    """Why a line is not taken: the first of these that holds, in this order."""

    CANCELLED = "cancelled"
    NO_DESCRIPTION = "no_description"
    BAD_QUANTITY = "bad_quantity"
    BAD_PRICE = "bad_price"
    NO_CUSTOMER = "no_customer"
    UNREADABLE = "unreadable"


class Columns(Struct):
    """Where the file has each column that is needed, and how many it has in all."""

    count: int
    at: tuple[int, ...]


class _Allowed(Struct):
    """What the store's contracts allow in a line."""

    invoice: InvoiceNo
    sku: Sku
    name: ProductName
    quantity: Quantity
    customer_id: CustomerId


class TakenLine(Struct):
    """A line that becomes part of an order. `price` is of one piece, as it was charged then."""

    line: int
    invoice: str
    sku: str
    name: str
    quantity: int
    placed_at: datetime
    price: Money
    customer_id: str


def locate_columns(header: Sequence[str]) -> Columns:
    """Find the columns by name; their order and further ones do not matter.

    Raises: NotSuchAFileError naming the columns that are missing.
    """
    found = [name.strip() for name in header]
    missing = [name for name in COLUMNS if name not in found]
    doubled = [name for name in COLUMNS if found.count(name) > 1]
    if missing:
        shown = ", ".join(repr(_short(name)) for name in found[:12]) or "nothing"
        nearest = [
            f"{name!r} may be meant by {match[0]!r}"
            for name in missing
            if (match := get_close_matches(name, found, n=1))
        ]
        raise NotSuchAFileError(
            f"line 1: the columns {', '.join(missing)} are missing; found {shown}"
            f"{', …' if len(found) > 12 else ''}. The first line must name the columns "
            f"{','.join(COLUMNS)}, in any order." + (f" {'; '.join(nearest)}." if nearest else "")
        )
    if doubled:
        raise NotSuchAFileError(
            f"line 1: the columns {', '.join(doubled)} stand there more than once, so that it "
            "is not clear which to read. Keep one of each."
        )
    return Columns(count=len(found), at=tuple(found.index(name) for name in COLUMNS))


def classify(line: int, fields: Sequence[str] | None, columns: Columns) -> TakenLine | Reason:
    """Take a line, or say why not; it never raises and never guesses.

    Of a record with too many or too few fields only a leading invoice number
    can be trusted, since everything after the break may stand in the wrong
    column: it is `cancelled` or `unreadable`. A price that is no number is not
    above zero; one with more decimals than the currency has is unreadable,
    since rounding it would be a guess, and so is a code, name or number that
    the store's contracts do not allow.
    """
    if fields is None:
        return Reason.UNREADABLE
    if len(fields) != columns.count:
        leading = fields[0].strip() if fields and columns.at[0] == 0 else ""
        return Reason.CANCELLED if leading.startswith("C") else Reason.UNREADABLE
    invoice, sku, name, quantity_text, moment_text, price_text, customer, _country = (
        fields[at].strip() for at in columns.at
    )
    quantity = int(quantity_text) if _WHOLE.fullmatch(quantity_text) else 0
    price = Decimal(price_text) if _DECIMAL.fullmatch(price_text) else Decimal(0)
    if invoice.startswith("C"):
        return Reason.CANCELLED
    if not name:
        return Reason.NO_DESCRIPTION
    if quantity <= 0:
        return Reason.BAD_QUANTITY
    if price <= 0:
        return Reason.BAD_PRICE
    if not customer:
        return Reason.NO_CUSTOMER
    placed_at = _moment(moment_text)
    # The limit comes first: a number of more digits than Decimal keeps cannot be rounded.
    exact = price <= _MAX_PRICE and price == round(price, 2)
    if placed_at is None or not exact or not _allowed(invoice, sku, name, quantity, customer):
        return Reason.UNREADABLE
    return TakenLine(
        line=line,
        invoice=invoice,
        sku=sku,
        name=name,
        quantity=quantity,
        placed_at=placed_at,
        price=Money(amount=round(price, 2), currency=CURRENCY),
        customer_id=customer,
    )


def _allowed(invoice: str, sku: str, name: str, quantity: int, customer_id: str) -> bool:
    fields = {
        "invoice": invoice,
        "sku": sku,
        "name": name,
        "quantity": quantity,
        "customer_id": customer_id,
    }
    try:
        msgspec.convert(fields, _Allowed)
    except msgspec.ValidationError:
        return False
    return True


def _moment(text: str) -> datetime | None:
    match = _MOMENT.fullmatch(text)
    if match is None:
        return None
    month, day, year, hour, minute = (int(part) for part in match.groups())
    try:
        return datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:39]}…"
