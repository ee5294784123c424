"""The inventory's handlers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final
from uuid import UUID

from store.catalog.contract import MAX_BULK, Catalog
from store.inventory import rules, tables
from store.inventory.contract import (
    Delivery,
    Inventory,
    Stock,
    StockLevel,
    StockReserved,
    StockShort,
)
from store.inventory.rules import ReservationState
from store.inventory.tables import Pieces
from store.orders.contract import OrderConfirmed, OrderPlaced, OrderRejected
from tenfold import Database, now, publish, subscribe

__all__ = ["InventoryModule"]

_NOTHING = Stock(free=0, reserved=0, sold=0)
_FIRST = UUID(int=0)


@final
class InventoryModule(Inventory):
    """How much of each product there is: received, free, reserved and sold."""

    db: Database
    catalog: Catalog

    async def receive_stock(self, product_id: UUID, quantity: int) -> Stock:
        """Receive pieces of a product; returns its stock afterwards."""
        await self.catalog.get_product(product_id)
        await self.db.execute(tables.RECEIVE, **_received(product_id, quantity))
        stock = await self.db.one(tables.GET_STOCK, product_id=product_id, into=Stock)
        assert stock is not None
        return stock

    async def get_stock(self, product_id: UUID) -> Stock:
        """The stock of one product; all zero where none was received yet."""
        stock = await self.db.one(tables.GET_STOCK, product_id=product_id, into=Stock)
        if stock is None:
            await self.catalog.get_product(product_id)
        return stock or _NOTHING

    async def get_stocks(self, product_ids: list[UUID]) -> list[StockLevel]:
        """The stock of these products; those never received are left out."""
        return await self.db.all(tables.SELECT_STOCKS, product_ids=product_ids, into=StockLevel)

    async def list_stocks(
        self, after: UUID | None = None, limit: int = MAX_BULK
    ) -> list[StockLevel]:
        """Every product's stock in order of product id, `after` exclusive."""
        return await self.db.all(
            tables.LIST_STOCKS, after=after or _FIRST, most=limit, into=StockLevel
        )

    async def receive_deliveries(self, deliveries: list[Delivery]) -> int:
        """Receive deliveries, each once by its number; returns how many of them were new."""
        by_number = {delivery.delivery_no: delivery for delivery in deliveries}
        for row in await self.db.all(tables.SELECT_DELIVERIES, numbers=list(by_number)):
            del by_number[row.delivery_no]
        if not by_number:
            return 0
        at = now()
        await self.db.execute_many(
            tables.ADD_DELIVERY,
            [{"delivery_no": number, "received_at": at} for number in by_number],
        )
        pieces = rules.pieces_received(by_number.values())
        await self.db.execute_many(
            tables.RECEIVE, [_received(product_id, count) for product_id, count in pieces.items()]
        )
        return len(by_number)

    @subscribe
    async def reserve(self, event: OrderPlaced) -> None:
        """Set an order's pieces aside: every line, or none."""
        wanted = rules.pieces_wanted(event.lines)
        rows = await self.db.all(tables.SELECT_FREE, product_ids=list(wanted))
        shortages = rules.decide_shortages(wanted, {row.product_id: row.free for row in rows})
        pieces = [Pieces(product_id=key, quantity=count) for key, count in wanted.items()]
        state = ReservationState.SHORT if shortages else ReservationState.RESERVED
        await self.db.execute(
            tables.ADD_RESERVATION, order_id=event.order_id, state=state.value, pieces=pieces
        )
        if shortages:
            publish(StockShort(order_id=event.order_id, shortages=shortages))
            return
        await self.db.execute_many(tables.RESERVE, _moves(pieces))
        publish(
            StockReserved(order_id=event.order_id, customer_id=event.customer_id, total=event.total)
        )

    @subscribe
    async def sell(self, event: OrderConfirmed) -> None:
        """What was set aside for an order is sold for good."""
        await self._end(event.order_id, confirmed=True)

    @subscribe
    async def release(self, event: OrderRejected) -> None:
        """What was set aside for an order is free again."""
        await self._end(event.order_id, confirmed=False)

    async def _end(self, order_id: UUID, *, confirmed: bool) -> None:
        held = await self.db.one(tables.GET_RESERVATION, order_id=order_id)
        state = None if held is None else ReservationState(held.state)
        end = rules.decide_end(state, confirmed=confirmed)
        if held is None or end is None:
            return
        move = tables.SELL if end is ReservationState.SOLD else tables.RELEASE
        await self.db.execute_many(move, _moves(held.pieces))
        await self.db.execute(tables.END_RESERVATION, order_id=order_id, state=end.value)


def _received(product_id: UUID, pieces: int) -> dict[str, Any]:
    return {
        "product_id": product_id,
        "received": pieces,
        "free": pieces,
        "reserved": 0,
        "sold": 0,
    }


def _moves(pieces: Sequence[Pieces]) -> list[dict[str, Any]]:
    return [{"product_id": held.product_id, "pieces": held.quantity} for held in pieces]
