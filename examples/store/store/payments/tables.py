"""The payments' table, and the statements that read and write it."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Table,
    Text,
    bindparam,
    func,
    insert,
    select,
    update,
)

from tenfold.tables.columns import Instant, Uuid, metadata, money, tenant

__all__ = [
    "ADD_PAYMENT",
    "CAPTURED_TOTALS",
    "COUNT_UNSETTLED",
    "GET_PAYMENT",
    "LIST_STRAGGLERS",
    "MARK_SILENT",
    "SETTLE",
    "METADATA",
]

_OPEN = ("intended", "unknown")

METADATA = metadata()

PAYMENTS = Table(
    "payments",
    METADATA,
    tenant(),
    Column("order_id", Uuid(), primary_key=True),
    Column("key", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    *money("amount"),
    Column("state", Text, nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("reference", Text),
    Column("reason", Text),
    Column("created_at", Instant(), nullable=False),
    Index("payments_unsettled_index", "tenant", "state", "created_at"),
)

_P = PAYMENTS.c
_THIS = _P.order_id == bindparam("order_id")

ADD_PAYMENT = insert(PAYMENTS)
GET_PAYMENT = select(
    _P.order_id,
    _P.key,
    _P.customer_id,
    _P.amount_minor,
    _P.amount_currency,
    _P.state,
    _P.asked,
    _P.reference,
    _P.reason,
    _P.created_at,
).where(_THIS)
SETTLE = (
    update(PAYMENTS)
    .where(_THIS)
    .values(state=bindparam("state"), reference=bindparam("reference"), reason=bindparam("reason"))
)
MARK_SILENT = update(PAYMENTS).where(_THIS).values(state="unknown", asked=_P.asked + 1)
LIST_STRAGGLERS = (
    select(_P.order_id)
    .where(_P.state.in_(_OPEN), _P.created_at < bindparam("before"))
    .order_by(_P.created_at)
    .limit(bindparam("most"))
)
CAPTURED_TOTALS = (
    select(func.sum(_P.amount_minor).label("amount_minor"), _P.amount_currency)
    .where(_P.state == "captured")
    .group_by(_P.amount_currency)
    .order_by(_P.amount_currency)
)
COUNT_UNSETTLED = select(func.count()).where(_P.state.in_(_OPEN))
