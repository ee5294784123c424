"""Order history for the import's tests, and what a second, independent reading finds in it."""

from __future__ import annotations

import csv
import gzip
import os
import random
from collections import Counter, defaultdict
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pytest

from tenfold import Struct

__all__ = ["Expected", "real_history", "made_up_history", "read_independently"]

ROOT = Path(__file__).parents[2]
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


class Expected(Struct):
    """What an import of a file should come to. `days` has orders and revenue of each day."""

    lines: int
    taken: int
    refused: dict[str, int]
    orders: int
    pieces: int
    days: dict[date, tuple[int, Decimal]]

    @property
    def revenue(self) -> Decimal:
        """All days together."""
        return sum((revenue for _, revenue in self.days.values()), Decimal(0))


def real_history() -> Path:
    """The data set; `TENFOLD_HISTORY` says where it is, if not beside the repository."""
    told = os.environ.get("TENFOLD_HISTORY")
    path = Path(told) if told else ROOT.parent / "shared" / "data" / "online_retail.csv.gz"
    if not path.is_file():
        reason = (
            f"NO REAL HISTORY at {path}: the full import is not tested. Say where the file is "
            "with TENFOLD_HISTORY=path, or make campaign-import HISTORY=path."
        )
        if told:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def made_up_history(path: Path, seed: int) -> Path:
    """A small file with every kind of line, the same for the same seed."""
    chance = random.Random(seed)
    lines = [HEADER]
    for number in range(90):
        for sku in chance.sample(range(40), chance.randint(1, 8)):
            # A price can differ between lines of one code, as in real files.
            price = f"{chance.randint(1, 2000) / 100:.2f}"
            quantity, day = chance.randint(1, 48), 1 + number % 3
            customer = "" if number % 10 == 3 else str(17000 + number % 25)
            lines.append(
                f"{536000 + number},S{sku},THING {sku},{quantity},12/{day}/2010 "
                f"{number % 24}:{number % 60:02},{price},{customer},United Kingdom"
            )
    for code, name, quantity, moment, price in (
        ("C536000", "THING 1", "-1", "12/1/2010 9:00", "1.00"),
        ("536001", "", "1", "12/1/2010 9:00", "1.00"),
        ("536001", "THING 2", "-3", "12/1/2010 9:00", "1.00"),
        ("536001", "THING 2", "3", "12/1/2010 9:00", "0.00"),
        ("536001", "THING 2", "3", "31/31/2010 9:00", "1.00"),
    ):
        lines.append(f"{code},S1,{name},{quantity},{moment},{price},17850,France")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_independently(path: Path) -> Expected:
    """Read a file by the rules that are published for it, with none of the store's code."""
    refused = Counter[str]()
    invoices: dict[str, list[tuple[date, int, Decimal]]] = defaultdict(list)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            reason = _reason(row)
            if reason is not None:
                refused[reason] += 1
                continue
            quantity, price = int(row["Quantity"]), Decimal(row["UnitPrice"])
            invoices[row["InvoiceNo"]].append((_day(row["InvoiceDate"]), quantity, price))
    days: dict[date, tuple[int, Decimal]] = {}
    for lines in invoices.values():
        orders, revenue = days.get(lines[0][0], (0, Decimal(0)))
        total = sum((quantity * price for _, quantity, price in lines), Decimal(0))
        days[lines[0][0]] = (orders + 1, revenue + total)
    taken = sum(len(lines) for lines in invoices.values())
    return Expected(
        lines=taken + refused.total(),
        taken=taken,
        refused=dict(refused),
        orders=len(invoices),
        pieces=sum(quantity for lines in invoices.values() for _, quantity, _ in lines),
        days=days,
    )


def _reason(row: dict[str, str]) -> str | None:
    if row["InvoiceNo"].startswith("C"):
        return "cancelled"
    if not row["Description"].strip():
        return "no_description"
    if not row["Quantity"].isdigit() or int(row["Quantity"]) == 0:
        return "bad_quantity"
    try:
        if Decimal(row["UnitPrice"]) <= 0:
            return "bad_price"
    except InvalidOperation:
        return "bad_price"
    if not row["CustomerID"].strip():
        return "no_customer"
    try:
        _day(row["InvoiceDate"])
    except ValueError:
        return "unreadable"
    return None


def _day(moment: str) -> date:
    return datetime.strptime(moment, "%m/%d/%Y %H:%M").date()  # noqa: DTZ007
