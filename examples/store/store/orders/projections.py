"""The orders' read models."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar
from uuid import UUID

from sqlalchemy import Column, Index, Table, Text, and_, bindparam, insert, or_, select, update

from store.orders.contract import (
    OrderConfirmed,
    OrderPlaced,
    OrderRejected,
    OrderStatus,
    PricedLine,
    RejectionReason,
)
from store.orders.rules import OrderRecord
from tenfold import Database, Projection, subscribe
from tenfold.tables.columns import Instant, Json, Uuid, metadata, money, tenant

__all__ = ["OrderHistory"]

_HISTORY = Table(
    "order_history",
    metadata(),
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    *money("total"),
    Column("placed_at", Instant(), nullable=False),
    Column("lines", Json(list[PricedLine]), nullable=False),
    Index(None, "tenant", "customer_id", "placed_at", "id"),
)
_H = _HISTORY.c

_ADD = insert(_HISTORY)
_END = (
    update(_HISTORY)
    .where(_H.id == bindparam("order_id"))
    .values(status=bindparam("status"), reason=bindparam("reason"))
)
_PAGE = (
    select(
        _H.id,
        _H.customer_id,
        _H.lines,
        _H.total_minor,
        _H.total_currency,
        _H.status,
        _H.reason,
        _H.placed_at,
    )
    .where(_H.customer_id == bindparam("customer_id"))
    .order_by(_H.placed_at.desc(), _H.id.desc())
    .limit(bindparam("most"))
)
_NEXT_PAGE = _PAGE.where(
    or_(
        _H.placed_at < bindparam("placed_at"),
        and_(_H.placed_at == bindparam("placed_at"), _H.id < bindparam("id")),
    )
)


class OrderHistory(Projection):
    """Each customer's orders, to be read newest first."""

    name: ClassVar[str] = "order_history"
    tables: ClassVar[tuple[Table, ...]] = (_HISTORY,)
    db: Database

    @subscribe
    async def placed(self, event: OrderPlaced) -> None:
        """An order begins its history."""
        await self.db.execute(
            _ADD,
            id=event.order_id,
            customer_id=event.customer_id,
            status=OrderStatus.PLACED.value,
            reason=None,
            total=event.total,
            placed_at=event.placed_at,
            lines=event.lines,
        )

    @subscribe
    async def confirmed(self, event: OrderConfirmed) -> None:
        """An order went well."""
        await self._end(event.order_id, OrderStatus.CONFIRMED, None)

    @subscribe
    async def rejected(self, event: OrderRejected) -> None:
        """An order came to nothing."""
        await self._end(event.order_id, OrderStatus.REJECTED, event.reason)

    async def page(
        self, customer_id: str, limit: int, after: tuple[datetime, UUID] | None
    ) -> list[OrderRecord]:
        """A customer's orders, newest first, `after` exclusive."""
        if after is None:
            return await self.db.all(_PAGE, customer_id=customer_id, most=limit, into=OrderRecord)
        placed_at, order_id = after
        return await self.db.all(
            _NEXT_PAGE,
            customer_id=customer_id,
            most=limit,
            placed_at=placed_at,
            id=order_id,
            into=OrderRecord,
        )

    async def _end(
        self, order_id: UUID, status: OrderStatus, reason: RejectionReason | None
    ) -> None:
        await self.db.execute(
            _END,
            order_id=order_id,
            status=status.value,
            reason=None if reason is None else reason.value,
        )
