"""What customers were told against what the store holds at the end of its way."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from benchmarks.journey.machines import Site
from benchmarks.journey.record import Asked
from benchmarks.processes import STORE
from store.insights.contract import Insights
from store.invariants import Books, broken_invariants, read_modules
from store.inventory.contract import Inventory
from store.notifications.contract import Notifications
from store.orders.contract import Order, OrderNotFound, Orders
from store.payments.contract import Payments
from tenfold.contracts.structs import Struct
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.topology import load_product

__all__ = ["Held", "complaints", "decide_complaints", "decide_promises"]

_SETTLED_S = 180.0


class Held(Struct):
    """What the store and the payment provider hold when nothing is left to do.

    `orders` are those that were told, by id. `charged` is what the provider took,
    by currency in the smallest unit, and `twice` the orders that it took for more than once.
    """

    orders: dict[str, Any]
    books: Books
    sold: dict[str, int]
    dead: int
    charged: dict[str, int]
    twice: list[str]


async def complaints(site: Site, topology: str, journal: Sequence[Asked], before: int) -> list[str]:
    """What is not as it must be, one sentence each; empty where everything is.

    Args:
        topology: the one that runs now.
        before: how many orders were imported before the customers came.
    """
    environ = site.environ(topology)
    product = load_product(STORE, topology, environ=environ)
    async with connect_product(product, command="journey") as connection:
        if not await connection.desk.wait_idle(_SETTLED_S):
            return [f"the store did not come to rest: {await connection.desk.backlog()}"]
        orders = connection.proxy(Orders)
        days = [day async for day in _days(connection.proxy(Insights))]
        sold: dict[str, int] = defaultdict(int)
        for day in days:
            sold[day.revenue.currency] += day.revenue.minor
        charged, twice = _ledger(site.ledger)
        held = Held(
            orders={told["id"]: await _found(orders, told["id"]) for told in _told(journal)},
            books=await read_modules(
                connection.proxy(Inventory),
                orders,
                connection.proxy(Payments),
                connection.proxy(Notifications),
            ),
            sold=dict(sold),
            dead=(await connection.desk.backlog()).dead,
            charged=charged,
            twice=twice,
        )
    return decide_complaints(journal, held, before)


def decide_complaints(journal: Sequence[Asked], held: Held, before: int) -> list[str]:
    """The invariants, the promises, and whether everybody keeps the same books."""
    counts = held.books.counts
    confirmed = {money.currency: money.minor for money in held.books.confirmed}
    found = [
        *broken_invariants(held.books),
        *decide_promises(journal, held.orders),
        *(each.wrong for each in journal if each.wrong),
        *(f"the provider took money for order {order} more than once" for order in held.twice),
    ]
    # Who was told of no outcome may have ordered all the same: those keys may be there or not.
    known = {each.key for each in journal if each.told}
    unknown = {each.key for each in journal if each.kind == "place" and not each.told} - known
    there = counts.confirmed + counts.rejected + counts.placed - before
    if not len(known) <= there <= len(known) + len(unknown):
        found.append(
            f"{there} orders came in on the way; {len(known)} were told, {len(unknown)} may be"
        )
    if held.charged != confirmed:
        found.append(f"the provider took {held.charged}, confirmed orders come to {confirmed}")
    if held.sold != confirmed:
        found.append(f"daily sales say {held.sold}, confirmed orders come to {confirmed}")
    if held.dead:
        found.append(f"{held.dead} entries of queues were given up")
    return found


def decide_promises(journal: Iterable[Asked], held: Mapping[str, Any]) -> Iterator[str]:
    """Every order that was told is there as it was told, has ended, and was told once."""
    for told in _told(journal):
        order = held[told["id"]]
        if order is None:
            yield f"order {told['id']} was acknowledged and is gone"
            continue
        for name in ("customer_id", "lines", "total", "placed_at"):
            if order[name] != told[name]:
                yield f"order {told['id']} has {name}={order[name]}, told was {told[name]}"
        wanted = "rejected" if told["customer_id"] == "declined" else "confirmed"
        if order["status"] != wanted:
            yield f"order {told['id']} of {told['customer_id']} ended {order['status']}"
    for order, times in Counter(told["id"] for told in _told(journal)).items():
        if times > 1:
            yield f"order {order} was told for {times} keys"


def _told(journal: Iterable[Asked]) -> Iterator[Any]:
    return (each.told for each in journal if each.told)


async def _found(orders: Orders, order: str) -> Any:
    try:
        found: Order = await orders.get_order(UUID(order))
    except OrderNotFound:
        return None
    return msgspec.json.decode(msgspec.json.encode(found))


async def _days(insights: Insights) -> Any:
    cursor = None
    while True:
        page = await insights.daily_sales(cursor=cursor)
        for day in page.items:
            yield day
        cursor = page.next
        if cursor is None:
            return


def _ledger(file: Path) -> tuple[dict[str, int], list[str]]:
    """What the provider took by currency, and for which orders more than once."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)
    try:
        taken = connection.execute(
            "SELECT order_id, minor, currency FROM charges WHERE captured = 1"
        ).fetchall()
    finally:
        connection.close()
    charged: Counter[str] = Counter()
    for _, minor, currency in taken:
        charged[currency] += minor
    times = Counter(order for order, _, _ in taken)
    return dict(charged), [order for order, count in times.items() if count > 1]
