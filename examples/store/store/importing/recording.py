"""Carry invoices into the store: products, stock and orders, each of them once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar
from uuid import UUID

from store.catalog.contract import MAX_BULK, Catalog, NewProduct
from store.importing.intake import Intake, Invoice
from store.inventory.contract import Delivery, Inventory, Received
from store.orders.contract import InvoiceLine, Orders
from tenfold import TenfoldError

__all__ = ["Modules", "Progress", "record"]

CHUNK_INVOICES = 40
AT_ONCE = 48
TRIES = 8
_PASSING = ("admit.overloaded", "admit.deadline_exceeded")
_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Modules:
    """The modules that an import speaks to."""

    catalog: Catalog
    inventory: Inventory
    orders: Orders


@dataclass
class Progress:
    """How far an import has come: invoices recorded, and how many of them are new.

    `begun` once the store was reached. `changed` is called after each one, for whoever shows it.
    """

    total: int
    recorded: int = 0
    new: int = 0
    begun: bool = False
    changed: Callable[[], None] = lambda: None


async def record(modules: Modules, intake: Intake, progress: Progress) -> None:
    """Record all invoices, with their products and exactly the stock that they need.

    Chunk after chunk: its products are added, its deliveries received (one for
    each invoice, by its number), then its invoices recorded, while the next
    chunk is being prepared. Each of these commands does nothing the second
    time, by SKU, delivery number and invoice number, so an import that was
    killed anywhere is run again from its beginning.

    Raises: TenfoldError of the first call that failed for good.
    """
    ready: asyncio.Queue[tuple[Invoice, dict[str, UUID]] | None] = asyncio.Queue(CHUNK_INVOICES)

    async def prepare() -> None:
        products = {product.sku: product for product in intake.products}
        ids: dict[str, UUID] = {}
        for start in range(0, len(intake.invoices), CHUNK_INVOICES):
            chunk = intake.invoices[start : start + CHUNK_INVOICES]
            skus = dict.fromkeys(line.sku for invoice in chunk for line in invoice.lines)
            wanted = [products[sku] for sku in skus if sku not in ids]
            ids.update(await _add_products(modules.catalog, wanted))
            deliveries = [_delivery(invoice, ids) for invoice in chunk]
            await _patiently(modules.inventory.receive_deliveries, deliveries)
            for invoice in chunk:
                await ready.put((invoice, ids))
        for _ in range(AT_ONCE):
            await ready.put(None)

    async def work() -> None:
        while (item := await ready.get()) is not None:
            invoice, ids = item
            recorded = await _patiently(
                modules.orders.record_invoice,
                invoice.number,
                invoice.customer_id,
                _lines(invoice, ids),
                invoice.placed_at,
            )
            progress.recorded += 1
            progress.new += recorded.new
            progress.changed()

    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(prepare())
            for _ in range(AT_ONCE):
                tasks.create_task(work())
    except BaseExceptionGroup as group:
        # One failure stops all the others; the first says what there is to say.
        raise group.exceptions[0] from None


async def _add_products(catalog: Catalog, wanted: Sequence[NewProduct]) -> dict[str, UUID]:
    ids: dict[str, UUID] = {}
    for start in range(0, len(wanted), MAX_BULK):
        bulk = list(wanted[start : start + MAX_BULK])
        added = await _patiently(catalog.add_products, bulk)
        ids.update((product.sku, product.id) for product in added)
    return ids


def _delivery(invoice: Invoice, ids: dict[str, UUID]) -> Delivery:
    return Delivery(
        delivery_no=f"invoice {invoice.number}",
        items=[Received(product_id=ids[x.sku], quantity=x.quantity) for x in invoice.lines],
    )


def _lines(invoice: Invoice, ids: dict[str, UUID]) -> list[InvoiceLine]:
    return [
        InvoiceLine(product_id=ids[line.sku], quantity=line.quantity, unit_price=line.price)
        for line in invoice.lines
    ]


async def _patiently(call: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call up to eight times while the store is too busy: all calls here may be repeated."""
    for attempt in range(1, TRIES):
        try:
            return await call(*args, **kwargs)
        except TenfoldError as error:
            if error.code not in _PASSING:
                raise
            await asyncio.sleep(0.1 * 2**attempt)
    return await call(*args, **kwargs)
