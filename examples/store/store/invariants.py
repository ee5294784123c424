"""What must always hold of the store, checked from outside.

    stock never goes below zero, and reserved + sold + free = received;
    captured money = the total of confirmed orders, in every currency;
    one confirmation for each confirmed order, no more, no less;
    every accepted order ends confirmed or rejected.

While orders are on their way the last three cannot hold yet, so check when
every queue is empty.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from store.inventory.contract import Inventory, StockLevel
from store.notifications.contract import Notifications
from store.orders.contract import OrderCounts, Orders
from store.payments.contract import Payments
from tenfold import Money, Struct

__all__ = ["Books", "broken_invariants", "read_files", "read_modules"]


class Books(Struct):
    """What the modules say, side by side.

    `mails` counts confirmations; `wrong_mails` are orders that are confirmed and
    have not exactly one, or have one and are not confirmed, where that is known.
    """

    levels: list[StockLevel]
    captured: list[Money]
    confirmed: list[Money]
    counts: OrderCounts
    unsettled_payments: int
    mails: int
    wrong_mails: tuple[str, ...] = ()


def broken_invariants(books: Books) -> list[str]:
    """What does not hold, one sentence each; empty where everything does."""
    return [
        *_broken_stock(books.levels),
        *_broken_money(books.captured, books.confirmed),
        *_broken_mails(books),
        *_broken_ends(books),
    ]


async def read_modules(
    inventory: Inventory, orders: Orders, payments: Payments, notifications: Notifications
) -> Books:
    """Ask the modules of a running store, which should be idle."""
    levels: list[StockLevel] = []
    while page := await inventory.list_stocks(levels[-1].product_id if levels else None):
        levels += page
    return Books(
        levels=levels,
        captured=await payments.captured_totals(),
        confirmed=await orders.confirmed_totals(),
        counts=await orders.count_orders(),
        unsettled_payments=await payments.count_unsettled(),
        mails=await notifications.count_mail(),
    )


def read_files(data_dir: Path) -> Books:
    """Read the modules' SQLite files of a store that is not running, or is idle.

    Args:
        data_dir: the folder that holds them.
    Raises: FileNotFoundError for a module that has no file there.
    """
    levels = [
        StockLevel(
            product_id=UUID(bytes=row[0]),
            received=row[1],
            free=row[2],
            reserved=row[3],
            sold=row[4],
        )
        for row in _rows(
            data_dir, "inventory", "SELECT product_id, received, free, reserved, sold FROM stock"
        )
    ]
    statuses: dict[bytes, str] = dict(_rows(data_dir, "orders", "SELECT id, status FROM orders"))
    mailed = [row[0] for row in _rows(data_dir, "notifications", "SELECT order_id FROM mails")]
    confirmed = {order_id for order_id, status in statuses.items() if status == "confirmed"}
    times = Counter(mailed)
    wrong = confirmed ^ times.keys() | {order_id for order_id, n in times.items() if n > 1}
    found = list(statuses.values())
    return Books(
        levels=levels,
        captured=_totals(
            data_dir,
            "payments",
            "SELECT sum(amount_minor), amount_currency FROM payments WHERE state = 'captured'"
            " GROUP BY 2 ORDER BY 2",
        ),
        confirmed=_totals(
            data_dir,
            "orders",
            "SELECT sum(total_minor), total_currency FROM orders WHERE status = 'confirmed'"
            " GROUP BY 2 ORDER BY 2",
        ),
        counts=OrderCounts(
            placed=found.count("placed"),
            confirmed=found.count("confirmed"),
            rejected=found.count("rejected"),
        ),
        unsettled_payments=_rows(
            data_dir,
            "payments",
            "SELECT count(*) FROM payments WHERE state IN ('intended', 'unknown')",
        )[0][0],
        mails=len(mailed),
        wrong_mails=tuple(sorted(str(UUID(bytes=order_id)) for order_id in wrong)),
    )


def _rows(data_dir: Path, module: str, statement: str) -> list[tuple[Any, ...]]:
    file = data_dir / f"{module}.db"
    if not file.is_file():
        raise FileNotFoundError(f"{file} is not there, so the store has no data in {data_dir}.")
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def _totals(data_dir: Path, module: str, statement: str) -> list[Money]:
    return [Money.from_minor(row[0], row[1]) for row in _rows(data_dir, module, statement)]


def _broken_stock(levels: Iterable[StockLevel]) -> list[str]:
    broken: list[str] = []
    for level in levels:
        if min(level.free, level.reserved, level.sold) < 0:
            broken.append(f"stock of {level.product_id} is below zero: {level}")
        if level.free + level.reserved + level.sold != level.received:
            broken.append(f"stock of {level.product_id} does not add up: {level}")
    return broken


def _broken_money(captured: Sequence[Money], confirmed: Sequence[Money]) -> list[str]:
    taken = {money.currency: money.minor for money in captured}
    owed = {money.currency: money.minor for money in confirmed}
    return [
        f"captured {Money.from_minor(taken.get(currency, 0), currency)}, but confirmed orders "
        f"come to {Money.from_minor(owed.get(currency, 0), currency)}"
        for currency in sorted(taken.keys() | owed.keys())
        if taken.get(currency, 0) != owed.get(currency, 0)
    ]


def _broken_mails(books: Books) -> list[str]:
    broken: list[str] = []
    if books.mails != books.counts.confirmed:
        broken.append(
            f"{books.mails} confirmations were sent for {books.counts.confirmed} confirmed orders"
        )
    broken += [f"order {order} has not the confirmation it should" for order in books.wrong_mails]
    return broken


def _broken_ends(books: Books) -> list[str]:
    broken: list[str] = []
    if books.counts.placed:
        broken.append(f"{books.counts.placed} orders are neither confirmed nor rejected")
    if books.unsettled_payments:
        broken.append(f"{books.unsettled_payments} payments are neither captured nor declined")
    reserved = sum(level.reserved for level in books.levels)
    if reserved and not books.counts.placed:
        broken.append(f"{reserved} pieces are set aside for no order")
    return broken
