"""The inventory's tables, and the statements that read and write them."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Table,
    Text,
    bindparam,
    insert,
    select,
    update,
)

from tenfold import Struct
from tenfold.tables.columns import Instant, Json, Uuid, metadata, tenant
from tenfold.tables.upsert import incoming, upsert

__all__ = [
    "ADD_DELIVERY",
    "ADD_RESERVATION",
    "END_RESERVATION",
    "GET_RESERVATION",
    "GET_STOCK",
    "LIST_STOCKS",
    "RECEIVE",
    "RELEASE",
    "RESERVE",
    "SELECT_DELIVERIES",
    "SELECT_FREE",
    "SELECT_STOCKS",
    "SELL",
    "Pieces",
    "METADATA",
]


class Pieces(Struct):
    """So many pieces of one product, as a reservation holds them."""

    product_id: UUID
    quantity: int


METADATA = metadata()

STOCK = Table(
    "stock",
    METADATA,
    tenant(),
    Column("product_id", Uuid(), primary_key=True),
    Column("received", BigInteger, nullable=False),
    Column("free", BigInteger, nullable=False),
    Column("reserved", BigInteger, nullable=False),
    Column("sold", BigInteger, nullable=False),
    # What no rule may get wrong, the database refuses: nothing is sold that is not there.
    CheckConstraint("free >= 0", name="free_not_negative"),
    CheckConstraint("reserved >= 0", name="reserved_not_negative"),
    CheckConstraint("sold >= 0", name="sold_not_negative"),
    CheckConstraint("free + reserved + sold = received", name="adds_up"),
)

RESERVATIONS = Table(
    "reservations",
    METADATA,
    tenant(),
    Column("order_id", Uuid(), primary_key=True),
    Column("state", Text, nullable=False),
    Column("pieces", Json(list[Pieces]), nullable=False),
)

DELIVERIES = Table(
    "deliveries",
    METADATA,
    tenant(),
    Column("delivery_no", Text, primary_key=True),
    Column("received_at", Instant(), nullable=False),
)

_LEVEL = (
    STOCK.c.product_id,
    STOCK.c.received,
    STOCK.c.free,
    STOCK.c.reserved,
    STOCK.c.sold,
)
_PIECES = bindparam("pieces", type_=BigInteger())
_THIS = STOCK.c.product_id == bindparam("product_id")

GET_STOCK = select(STOCK.c.free, STOCK.c.reserved, STOCK.c.sold).where(_THIS)
SELECT_STOCKS = select(*_LEVEL).where(
    STOCK.c.product_id.in_(bindparam("product_ids", expanding=True))
)
LIST_STOCKS = (
    select(*_LEVEL)
    .where(STOCK.c.product_id > bindparam("after"))
    .order_by(STOCK.c.product_id)
    .limit(bindparam("most"))
)
SELECT_FREE = select(STOCK.c.product_id, STOCK.c.free).where(
    STOCK.c.product_id.in_(bindparam("product_ids", expanding=True))
)
RECEIVE = upsert(
    STOCK,
    on=[STOCK.c.product_id],
    set={
        STOCK.c.received: STOCK.c.received + incoming(STOCK.c.received),
        STOCK.c.free: STOCK.c.free + incoming(STOCK.c.free),
    },
)
RESERVE = (
    update(STOCK)
    .where(_THIS)
    .values(free=STOCK.c.free - _PIECES, reserved=STOCK.c.reserved + _PIECES)
)
SELL = (
    update(STOCK)
    .where(_THIS)
    .values(reserved=STOCK.c.reserved - _PIECES, sold=STOCK.c.sold + _PIECES)
)
RELEASE = (
    update(STOCK)
    .where(_THIS)
    .values(reserved=STOCK.c.reserved - _PIECES, free=STOCK.c.free + _PIECES)
)

ADD_RESERVATION = insert(RESERVATIONS)
GET_RESERVATION = select(RESERVATIONS.c.state, RESERVATIONS.c.pieces).where(
    RESERVATIONS.c.order_id == bindparam("order_id")
)
END_RESERVATION = (
    update(RESERVATIONS)
    .where(RESERVATIONS.c.order_id == bindparam("order_id"))
    .values(state=bindparam("state"))
)

SELECT_DELIVERIES = select(DELIVERIES.c.delivery_no).where(
    DELIVERIES.c.delivery_no.in_(bindparam("numbers", expanding=True))
)
ADD_DELIVERY = insert(DELIVERIES)
