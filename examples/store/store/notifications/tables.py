"""The notifications' table, and the statements that read and write it."""

from __future__ import annotations

from sqlalchemy import Column, Index, Table, Text, UniqueConstraint, bindparam, func, select, update

from tenfold.tables.columns import Instant, Uuid, metadata, tenant
from tenfold.tables.upsert import upsert

__all__ = [
    "ADD_MAIL",
    "COUNT_MAIL",
    "GET_UNSENT",
    "LIST_MAIL",
    "LIST_MAIL_OF",
    "MARK_SENT",
    "METADATA",
]

METADATA = metadata()

MAILS = Table(
    "mails",
    METADATA,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("order_id", Uuid(), nullable=False),
    Column("to", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("sent_at", Instant()),
    # One confirmation for each order, whatever happens.
    UniqueConstraint("tenant", "order_id", name="mails_tenant_order_id_unique"),
    Index("mails_customer_index", "tenant", "customer_id", "id"),
)
_M = MAILS.c
_MAIL = select(_M.id, _M.customer_id, _M.order_id, _M.to, _M.subject, _M.body, _M.sent_at)

ADD_MAIL = upsert(MAILS, on=[_M.order_id])
GET_UNSENT = _MAIL.where(_M.id == bindparam("id"), _M.sent_at.is_(None))
MARK_SENT = (
    update(MAILS)
    .where(_M.id == bindparam("id"), _M.sent_at.is_(None))
    .values(sent_at=bindparam("sent_at"))
)
# Ids grow with time: the newest mail has the highest.
LIST_MAIL = (
    _MAIL.where(_M.sent_at.is_not(None), _M.id < bindparam("before"))
    .order_by(_M.id.desc())
    .limit(bindparam("most"))
)
LIST_MAIL_OF = LIST_MAIL.where(_M.customer_id == bindparam("customer_id"))
COUNT_MAIL = select(func.count()).select_from(MAILS)
