"""The judge: compares what clients were told with what the store says and what its files hold."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from store.invariants import broken_invariants, read_files
from tenfold.path.relay import Feed
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.topology import load_product
from tenfold.runtimes.wiring import Wiring
from tests.faults.journal import Journal
from tests.faults.store_process import STORE, Wire

__all__ = [
    "MODULES",
    "SCHEDULES",
    "Held",
    "await_settled",
    "complaints",
    "contradictions",
    "dead_letters",
    "unfinished",
]

MODULES = ("catalog", "inventory", "orders", "payments", "notifications", "insights")
SCHEDULES = ("settle_stragglers",)
_SEEDED_PRODUCTS = 24


class Held(msgspec.Struct):
    """What a store's tables hold. `received` is by the product's id in hexadecimal."""

    orders: int
    products: int
    received: dict[str, int]


def rows(file: Path, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    """What a query finds in a file that a process may have open."""
    connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


@cache
def _feeds(module: str) -> list[Feed]:
    """What a module of the store follows."""
    product = load_product(STORE, "prototype", environ={})
    shapes = {name: read_module(name, cls) for name, cls in product.modules.items()}
    groups = Wiring(shapes, SystemClock()).feeds(module)
    return [feed for group in groups.values() for feed in group]


def unfinished(data: Path) -> list[str]:
    """Orders, deliveries and queue entries that are still on their way."""
    found: list[str] = []
    for module in MODULES:
        file = data / f"{module}.db"
        found += [
            f"{module}: entry {row[0]} of {row[1]} waits ({row[2]}), last error {row[3]}"
            for row in rows(
                file, "SELECT id, handler, waits, last_error FROM tenfold_queue WHERE waits > 0"
            )
            if row[1] not in SCHEDULES
        ]
        for feed in _feeds(module):
            (read,) = rows(
                file,
                "SELECT coalesce(max(seq), 0) FROM tenfold_positions"
                " WHERE handler = ? AND generation = 1 AND source = ?",
                feed.handler,
                feed.source,
            )[0]
            marks = ", ".join("?" * len(feed.events))
            (behind,) = rows(
                data / f"{feed.source}.db",
                f"SELECT count(*) FROM tenfold_outbox WHERE seq > ? AND name IN ({marks})",
                read,
                *feed.events,
            )[0]
            if behind:
                found.append(f"{module}: {feed.handler} has {behind} events of {feed.source} ahead")
    return found


def await_settled(data: Path, within_s: float = 40.0) -> list[str]:
    """What is unfinished when nothing moves any more; empty where all is done."""
    until = time.monotonic() + within_s
    while left := unfinished(data):
        if time.monotonic() > until:
            return left[:20]
        time.sleep(0.05)
    return []


def dead_letters(data: Path) -> list[str]:
    """Every dead letter of every module."""
    return [
        f"{module}: {handler} is dead after {attempts} attempts: {error}"
        for module in MODULES
        for handler, attempts, error in rows(
            data / f"{module}.db",
            "SELECT handler, attempts, last_error FROM tenfold_queue WHERE waits = 0",
        )
    ]


def complaints(journal: Journal, port: int, data: Path) -> list[str]:
    """What is not as it must be, one sentence each. The store runs and is settled."""
    held = Held(
        orders=rows(data / "orders.db", "SELECT count(*) FROM orders")[0][0],
        products=rows(data / "catalog.db", "SELECT count(*) FROM products")[0][0],
        received=dict(
            rows(data / "inventory.db", "SELECT lower(hex(product_id)), received FROM stock")
        ),
    )
    return [
        *broken_invariants(read_files(data)),
        *dead_letters(data),
        *contradictions(journal, port, held, data),
    ]


def contradictions(journal: Journal, port: int, held: Held, data: Path) -> list[str]:
    """Where what clients were told, what the store says and what its tables hold differ.

    Args:
        data: where the payment provider's ledger is.
    """
    wire = Wire(port)
    try:
        orders = {item["id"]: item for item in _orders(wire, journal)}
        return [
            *journal.complaints,
            *_products(wire, journal, held),
            *_stock(journal, held),
            *_promises(journal, orders, held),
            *_money(orders, data),
            *_mails(wire, orders),
            *_read_models(wire, orders),
        ]
    finally:
        wire.close()


def _orders(wire: Wire, journal: Journal) -> Iterator[Any]:
    for sent in journal.told("order"):
        answer = wire.get(f"/v1/orders/{sent.reply['id']}")
        if answer.status == 200:
            yield answer.body


def _promises(journal: Journal, orders: dict[str, Any], held: Held) -> Iterator[str]:
    """Every order that a client was told of is there as it was told, and no other."""
    for sent in journal.told("order"):
        order = orders.get(sent.reply["id"])
        if order is None:
            yield f"order {sent.reply['id']} was acknowledged under {sent.key} and is gone"
            continue
        for name in ("customer_id", "lines", "total", "placed_at"):
            if order[name] != sent.reply[name]:
                yield f"order {order['id']} has {name}={order[name]}, told was {sent.reply[name]}"
    keys = {sent.key for sent in journal.told("order")}
    if not held.orders == len(orders) == len(keys):
        yield f"{held.orders} orders are there for {len(keys)} keys and {len(orders)} ids"


def _products(wire: Wire, journal: Journal, held: Held) -> Iterator[str]:
    told = journal.told("product")
    for sent in told:
        answer = wire.get(f"/v1/products/{sent.reply['id']}")
        if answer.body != sent.reply:
            yield f"product was told as {sent.reply}, is {answer}"
    if held.products != len(told) + _SEEDED_PRODUCTS:
        yield f"{held.products} products are there; {len(told)} were added to {_SEEDED_PRODUCTS}"


def _stock(journal: Journal, held: Held) -> Iterator[str]:
    """Pieces received are those of the acknowledged deliveries, each once."""
    told: Counter[str] = Counter()
    for sent in journal.told("stock"):
        told[sent.path.split("/")[3].replace("-", "")] += sent.body["quantity"]
    for product, quantity in told.items():
        if (booked := held.received.get(product)) != quantity:
            yield f"{quantity} pieces of {product} were delivered, {booked} are booked"


def _money(orders: dict[str, Any], data: Path) -> Iterator[str]:
    """The provider charged each confirmed order once, its total, and no other order."""
    charged: dict[str, list[tuple[int, str]]] = defaultdict(list)
    ledger = data / "test-provider" / "ledger.db"  # made at the first charge
    charges = "SELECT order_id, minor, currency FROM charges WHERE captured = 1"
    for order_id, minor, currency in rows(ledger, charges) if ledger.exists() else []:
        charged[order_id].append((minor, currency))
    for order_id, order in orders.items():
        total = (int(Decimal(order["total"]["amount"]) * 100), order["total"]["currency"])
        owed = [total] if order["status"] == "confirmed" else []
        if charged.pop(order_id, []) != owed:
            yield f"order {order_id} is {order['status']}, and the provider charged otherwise"
    if charged:
        yield f"the provider charged orders that are not there: {sorted(charged)[:5]}"


def _mails(wire: Wire, orders: dict[str, Any]) -> Iterator[str]:
    sent = Counter(mail["order_id"] for mail in wire.pages("/v1/mail"))
    due = Counter(o["id"] for o in orders.values() if o["status"] == "confirmed")
    if sent != due:
        yield f"mails missing: {sorted(due - sent)[:5]}; too many: {sorted(sent - due)[:5]}"


def _read_models(wire: Wire, orders: dict[str, Any]) -> Iterator[str]:
    """The projections say what the orders say."""
    sold: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal()])
    days: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal()])
    histories: dict[str, list[Any]] = defaultdict(list)
    for order in orders.values():
        histories[order["customer_id"]].append(order)
        if order["status"] != "confirmed":
            continue
        amount, currency = Decimal(order["total"]["amount"]), order["total"]["currency"]
        _add(days[order["placed_at"][:10], currency], 1, amount)
        for line in order["lines"]:
            _add(sold[line["product_id"], currency], line["quantity"], amount)
    best = {
        (item["product_id"], item["revenue"]["currency"]): [
            Decimal(item["quantity"]),
            Decimal(item["revenue"]["amount"]),
        ]
        for item in wire.pages("/v1/insights/best-sellers")
    }
    if best != sold:
        yield f"best sellers say {_differ(best, sold)}"
    daily = {
        (item["date"], item["revenue"]["currency"]): [
            Decimal(item["orders"]),
            Decimal(item["revenue"]["amount"]),
        ]
        for item in wire.pages("/v1/insights/daily-sales")
    }
    if daily != days:
        yield f"daily sales say {_differ(daily, days)}"
    for customer, placed in histories.items():
        told = wire.pages(f"/v1/customers/{customer}/orders")
        newest = sorted(placed, key=lambda o: (o["placed_at"], o["id"]), reverse=True)
        if told != newest:
            yield f"the history of {customer} has {len(told)} orders, and {len(placed)} are there"


def _add(pair: list[Decimal], count: int, amount: Decimal) -> None:
    pair[0] += count
    pair[1] += amount


def _differ(found: dict[Any, Any], wanted: dict[Any, Any]) -> str:
    keys = [key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)]
    return "; ".join(f"{k}: {found.get(k)}, not {wanted.get(k)}" for k in keys[:3])
