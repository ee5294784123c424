"""The orders' handlers."""

from __future__ import annotations

from datetime import datetime
from typing import final
from uuid import UUID

from store.catalog.contract import MAX_BULK, Catalog, Product
from store.inventory.contract import StockShort
from store.orders import rules, tables
from store.orders.contract import (
    InvoiceLine,
    InvoiceRecorded,
    Line,
    Order,
    OrderConfirmed,
    OrderCounts,
    OrderNotFound,
    OrderPlaced,
    OrderRejected,
    Orders,
    OrderStatus,
    RejectionReason,
)
from store.orders.projections import OrderHistory
from store.orders.rules import OrderRecord, Placement
from store.payments.contract import PaymentCaptured, PaymentDeclined
from tenfold import (
    Database,
    Money,
    Page,
    decode_cursor,
    encode_cursor,
    new_id,
    now,
    publish,
    subscribe,
)

__all__ = ["OrdersModule"]


@final
class OrdersModule(Orders):
    """What customers asked for, and what became of it."""

    db: Database
    catalog: Catalog
    history: OrderHistory

    async def place_order(self, customer_id: str, lines: list[Line]) -> Order:
        """Place an order at today's prices; it is confirmed or rejected soon after."""
        products = await self._products([line.product_id for line in lines])
        placement = Placement(order_id=new_id(), customer_id=customer_id, placed_at=now())
        order = rules.decide_order(placement, lines, products)
        await self._place(order, None)
        return rules.order_of(order)

    async def get_order(self, order_id: UUID) -> Order:
        """One order."""
        record = await self.db.one(tables.GET_ORDER, id=order_id, into=OrderRecord)
        if record is None:
            raise OrderNotFound(order_id=order_id)
        return rules.order_of(record)

    async def list_customer_orders(
        self, customer_id: str, limit: int = 20, cursor: str | None = None
    ) -> Page[Order]:
        """A customer's orders, newest first."""
        after = None if cursor is None else decode_cursor(cursor, datetime, UUID)
        found = await self.history.page(customer_id, limit + 1, after)
        items = [rules.order_of(record) for record in found[:limit]]
        more = len(found) > limit
        return Page(
            items=items,
            next=encode_cursor(items[-1].placed_at, items[-1].id) if more else None,
        )

    async def record_invoice(
        self, invoice_no: str, customer_id: str, lines: list[InvoiceLine], placed_at: datetime
    ) -> InvoiceRecorded:
        """Record an invoice of the past as an order, once by its number."""
        products = await self._products([line.product_id for line in lines])
        first = await self.db.value(tables.FIND_INVOICE, invoice_no=invoice_no)
        if first is not None:
            return InvoiceRecorded(order_id=first, new=False)
        placement = Placement(order_id=new_id(), customer_id=customer_id, placed_at=placed_at)
        order = rules.decide_invoice(placement, lines, products)
        await self._place(order, invoice_no)
        return InvoiceRecorded(order_id=order.id, new=True)

    async def count_orders(self) -> OrderCounts:
        """How many orders stand where."""
        rows = await self.db.all(tables.COUNT_ORDERS)
        counts = {row.status: row.orders for row in rows}
        return OrderCounts(
            placed=counts.get("placed", 0),
            confirmed=counts.get("confirmed", 0),
            rejected=counts.get("rejected", 0),
        )

    async def confirmed_totals(self) -> list[Money]:
        """The sum of all confirmed orders, one amount for each currency."""
        return [row.total for row in await self.db.all(tables.CONFIRMED_TOTALS)]

    @subscribe
    async def reject_short(self, event: StockShort) -> None:
        """An order that the stock does not cover is rejected."""
        await self._end(event.order_id, RejectionReason.OUT_OF_STOCK)

    @subscribe
    async def reject_unpaid(self, event: PaymentDeclined) -> None:
        """An order that is not paid for is rejected."""
        await self._end(event.order_id, RejectionReason.PAYMENT_DECLINED)

    @subscribe
    async def confirm(self, event: PaymentCaptured) -> None:
        """An order that is paid for is confirmed."""
        await self._end(event.order_id, None)

    async def _products(self, product_ids: list[UUID]) -> list[Product]:
        wanted = list(dict.fromkeys(product_ids))
        found: list[Product] = []
        for start in range(0, len(wanted), MAX_BULK):
            found += await self.catalog.get_products(wanted[start : start + MAX_BULK])
        return found

    async def _place(self, order: OrderRecord, invoice_no: str | None) -> None:
        await self.db.execute(
            tables.ADD_ORDER,
            id=order.id,
            customer_id=order.customer_id,
            status=order.status.value,
            reason=None,
            total=order.total,
            placed_at=order.placed_at,
            invoice_no=invoice_no,
            lines=order.lines,
        )
        publish(
            OrderPlaced(
                order_id=order.id,
                customer_id=order.customer_id,
                lines=order.lines,
                total=order.total,
                placed_at=order.placed_at,
            )
        )

    async def _end(self, order_id: UUID, reason: RejectionReason | None) -> None:
        order = await self.db.one(tables.GET_ORDER, id=order_id, into=OrderRecord)
        end = None if order is None else rules.decide_end(order.status, reason)
        if order is None or end is None:
            return
        status, reason = end
        await self.db.execute(
            tables.END_ORDER,
            id=order_id,
            status=status.value,
            reason=None if reason is None else reason.value,
        )
        if status is OrderStatus.CONFIRMED:
            publish(
                OrderConfirmed(
                    order_id=order.id,
                    customer_id=order.customer_id,
                    lines=order.lines,
                    total=order.total,
                    placed_at=order.placed_at,
                )
            )
        elif reason is not None:
            publish(OrderRejected(order_id=order.id, customer_id=order.customer_id, reason=reason))
