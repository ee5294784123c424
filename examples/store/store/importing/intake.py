"""Sort a file's records into invoices and refusals, keeping count of every line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime

from store.catalog.contract import NewProduct
from store.importing.lines import (
    CURRENCY,
    Columns,
    NotSuchAFileError,
    Reason,
    TakenLine,
    classify,
    locate_columns,
)
from store.importing.reading import Damage, Record
from store.orders.contract import MAX_INVOICE_LINES, MAX_TOTAL_MINOR
from tenfold import Money, Struct

__all__ = ["Intake", "Invoice", "take_in"]

Refuse = Callable[[Record, Reason], None]


class Invoice(Struct):
    """One order to be recorded: an invoice's taken lines, in the order of the file."""

    number: str
    customer_id: str
    placed_at: datetime
    lines: list[TakenLine]

    @property
    def total(self) -> Money:
        """The exact sum of its lines, each at its own price."""
        return Money.from_minor(self.total_minor, CURRENCY)

    @property
    def total_minor(self) -> int:
        """The same in pence, however much it is: not every file's sum is an amount of money."""
        return sum(line.price.minor * line.quantity for line in self.lines)


class Intake(Struct):
    """All that the file held. `lines` = `taken` + the sum of `refused`.

    `products` has each stock code as the first line taken for it names and
    prices it.
    """

    lines: int
    taken: int
    refused: dict[str, int]
    invoices: list[Invoice]
    products: list[NewProduct]
    damage: str | None


def take_in(records: Iterable[Record | Damage], begin: Callable[[list[str]], Refuse]) -> Intake:
    """Read a whole file.

    An invoice's lines need not stand together. Its first taken line says when
    it was placed and by whom; a further line for another customer contradicts
    it and is refused as unreadable, while a differing minute is not. Where the
    file breaks off, the invoice that was being read is not recorded, since its
    missing lines could never be added: its lines are refused as unreadable. So
    are those of an invoice with more lines, or a larger total, than an order
    can have.

    Args:
        begin: is given the header's names and returns what each refused record
            is handed to.
    Raises: NotSuchAFileError where the first line is no header of such a file.
    """
    iterator = iter(records)
    header, columns = _header(iterator)
    refuse = begin(header)
    sorting = _Sorting(refuse)
    for record in iterator:
        if isinstance(record, Damage):
            sorting.break_off(record)
        else:
            sorting.add(record, columns)
    return sorting.result()


def _header(records: Iterable[Record | Damage]) -> tuple[list[str], Columns]:
    first = next(iter(records), None)
    if isinstance(first, Damage) or (first is not None and first.fields is None):
        detail = first.detail if isinstance(first, Damage) else "its first line is no CSV"
        raise NotSuchAFileError(
            f"line 1: the file cannot be read ({detail}), so nothing was taken from it. "
            "Fetch it again, or export it anew."
        )
    if first is not None and "\x00" in first.text:
        raise NotSuchAFileError(
            "line 1: there are zero bytes in it, as in UTF-16, and files are read as UTF-8. "
            "Save it again as CSV in UTF-8."
        )
    header = [] if first is None else list(first.fields or ())
    return header, locate_columns(header)


class _Sorting:
    """The counts and piles while a file is being read."""

    def __init__(self, refuse: Refuse) -> None:
        self._refuse = refuse
        self._lines = 0
        self._refused: Counter[Reason] = Counter()
        self._invoices: dict[str, list[TakenLine]] = {}
        self._products: dict[str, NewProduct] = {}
        self._newest: list[Record] = []
        self._newest_invoice = ""
        self._damage: str | None = None

    def add(self, record: Record, columns: Columns) -> None:
        """Classify one record and put it on its pile."""
        self._lines += 1
        judged = classify(record.line, record.fields, columns)
        if isinstance(judged, Reason):
            self._turn_down(record, judged)
            return
        lines = self._invoices.setdefault(judged.invoice, [])
        if lines and lines[0].customer_id != judged.customer_id:
            self._turn_down(record, Reason.UNREADABLE)
            return
        lines.append(judged)
        if judged.invoice != self._newest_invoice:
            self._newest_invoice, self._newest = judged.invoice, []
        self._newest.append(record)
        if judged.sku not in self._products:
            product = NewProduct(sku=judged.sku, name=judged.name, price=judged.price)
            self._products[judged.sku] = product

    def break_off(self, damage: Damage) -> None:
        """Take back the invoice in whose midst the file ended."""
        self._damage = f"line {damage.line}: the file breaks off here ({damage.detail})"
        self._take_back(self._invoices.pop(self._newest_invoice, []))

    def result(self) -> Intake:
        """What was read, with products only for lines that were taken in the end."""
        invoices: list[Invoice] = []
        for number, lines in self._invoices.items():
            invoice = Invoice(
                number=number,
                customer_id=lines[0].customer_id,
                placed_at=lines[0].placed_at,
                lines=lines,
            )
            if len(lines) <= MAX_INVOICE_LINES and invoice.total_minor <= MAX_TOTAL_MINOR:
                invoices.append(invoice)
            else:
                self._take_back(lines)
        used = {line.sku for invoice in invoices for line in invoice.lines}
        return Intake(
            lines=self._lines,
            taken=sum(len(invoice.lines) for invoice in invoices),
            refused={reason.value: self._refused[reason] for reason in Reason},
            invoices=invoices,
            products=[product for product in self._products.values() if product.sku in used],
            damage=self._damage,
        )

    def _take_back(self, lines: list[TakenLine]) -> None:
        # Only the newest invoice's records are at hand; keeping all of them would cost as much
        # memory as the file.
        records = {record.line: record for record in self._newest}
        for line in lines:
            lost = Record(line=line.line, text=f"{line.invoice},{line.sku}", fields=None)
            self._turn_down(records.get(line.line, lost), Reason.UNREADABLE)

    def _turn_down(self, record: Record, reason: Reason) -> None:
        self._refused[reason] += 1
        self._refuse(record, reason)
