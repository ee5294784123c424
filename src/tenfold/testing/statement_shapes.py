"""The tables and the shapes of statements that the statement cases run."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final, cast
from uuid import UUID

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Enum,
    Float,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    table,
    text,
    tuple_,
    union_all,
    update,
)

from tenfold.contracts.structs import Struct
from tenfold.tables.columns import Day, Exact, Instant, Json, Uuid, metadata, money, tenant
from tenfold.tables.search import SearchIndex, matches
from tenfold.tables.upsert import incoming, upsert

__all__ = [
    "ADD",
    "ADD_PART",
    "ALL",
    "ITEMS",
    "KINDS",
    "ONE",
    "PARTS",
    "PROJECTIONS",
    "READS",
    "REFUSED",
    "TABLES",
    "TOTALS",
    "TWO",
    "WRITES",
    "Colour",
    "Tag",
]


class Tag(Struct):
    """A value inside a JSON column."""

    name: str
    weight: int = 0


class Colour(enum.Enum):
    """A value of an enumerated column."""

    RED = "r"
    BLUE = "b"


TABLES: Final = metadata()
ITEMS: Final = Table(
    "items",
    TABLES,
    tenant(),
    Column("id", Uuid(), primary_key=True),
    Column("sku", Text, nullable=False),
    Column("note", Text, nullable=False, server_default=""),
    Column("quantity", Integer, nullable=False, default=0),
    *money("price", nullable=True),
    Column("at", Instant()),
    Column("day", Day()),
    Column("weight", Exact(3)),
    Column("tags", Json(list[Tag])),
    UniqueConstraint("tenant", "sku", name="sku_taken"),
    CheckConstraint("quantity >= 0", name="quantity_not_negative"),
    Index("items_by_day", "tenant", "day", "quantity", unique=True),
)
SearchIndex("items_search", ITEMS.c.note)
PARTS: Final = Table(
    "parts",
    TABLES,
    tenant(),
    Column("id", Integer, primary_key=True),
    Column("item_id", Uuid(), nullable=False),
    Column("name", Text, nullable=False),
)
TOTALS: Final = Table(
    "totals",
    TABLES,
    tenant(),
    Column("sku", Text, primary_key=True),
    Column("total", Integer, nullable=False),
)
KINDS: Final = Table(
    "kinds",
    TABLES,
    tenant(),
    Column("id", Integer, primary_key=True),
    Column("flag", Boolean),
    Column("colour", Enum(Colour)),
    Column("raw", LargeBinary),
    Column("ratio", Float),
    Column("short", String(2)),
    Column("at", Instant()),
    Column("day", Day()),
    Column("weight", Exact(3)),
)
PROJECTIONS: Final[Mapping[str, str]] = {"totals": "sums"}
"""`totals` belongs to the projection `sums`, of which generations 1 and 2 must exist."""

ONE: Final = UUID(int=1)
TWO: Final = UUID(int=2)
_I: Final = ITEMS.c
_P: Final = PARTS.c
_ALIAS: Final = ITEMS.alias("other")
ADD: Final = insert(ITEMS).values(
    id=bindparam("id"), sku=bindparam("sku"), note=bindparam("note"), quantity=bindparam("quantity")
)
ADD_PART: Final = insert(PARTS)
ALL: Final = select(_I.id, _I.sku, _I.note, _I.quantity).order_by(_I.sku)
_CTE: Final = select(_I.id, _I.note).where(_I.quantity > 0).cte("stocked")
_START: Final = select(_I.sku, _I.note).where(_I.quantity == 1).cte("walk", recursive=True)
_RECURSIVE: Final = _START.union_all(
    select(_I.sku, _I.note).where(_I.sku > _START.c.sku, _I.quantity < 5)
)


READS: Final[dict[str, Any]] = {
    "select": select(_I.note),
    "all columns": select(ITEMS).with_only_columns(_I.note),
    "primary key": select(_I.note).where(_I.id == ONE),
    "or in where": select(_I.note).where(or_(_I.id == ONE, literal(1) == 1)),
    "alias": select(_ALIAS.c.note),
    "self join": select(_ALIAS.c.note).join_from(ITEMS, _ALIAS, _ALIAS.c.id == _I.id),
    "cross join": select(_ALIAS.c.note).select_from(ITEMS.join(_ALIAS, literal(1) == 1)),
    "outer join, left": select(_I.note).outerjoin(PARTS, _P.item_id == _I.id),
    "outer join, right": select(_I.note).select_from(PARTS.outerjoin(ITEMS, _P.item_id == _I.id)),
    "full outer join": select(_I.note).select_from(
        PARTS.join(ITEMS, _P.item_id == _I.id, full=True)
    ),
    "exists": select(_I.note).where(exists().where(_P.item_id == _I.id)),
    "not exists": select(_I.note).where(~exists().where(_P.item_id == TWO, _I.id == ONE)),
    "in a subselect": select(_I.note).where(_I.id.in_(select(_P.item_id))),
    "scalar subselect": select(
        select(_ALIAS.c.note).where(_ALIAS.c.id == _I.id).scalar_subquery().label("note")
    ).select_from(ITEMS),
    "uncorrelated subselect": select(
        select(func.max(_ALIAS.c.note)).scalar_subquery().label("note")
    ),
    "recursive cte": select(_RECURSIVE.c.note),
    "alias of an alias": select(_ALIAS.alias("further").c.note),
    "subquery": select(select(_I.note).subquery().c.note),
    "cte": select(_CTE.c.note),
    "cte, joined to its table": select(_CTE.c.note).join(ITEMS, _I.id == _CTE.c.id),
    "union": union_all(select(_I.note), select(_ALIAS.c.note)),
    "group by": select(func.max(_I.note).label("note")).group_by(_I.sku),
    "window": select(func.max(_I.note).over(order_by=_I.sku).label("note")),
    "distinct": select(_I.note).distinct(),
    "for update": select(_I.note).with_for_update(),
    "order, limit and offset": select(_I.note).order_by(_I.note).limit(5).offset(0),
    "in a list": select(_I.note).where(_I.id.in_([ONE, TWO])),
    "rows in a list": select(_I.note).where(tuple_(_I.id, _I.sku).in_([(ONE, "a"), (TWO, "b")])),
    "search": select(_I.note).where(matches(_I.note, "of")),
    "search in an alias": select(_ALIAS.c.note).where(matches(_ALIAS.c.note, "of")),
    "the tenant itself": select(_I.note).where(or_(_I.tenant == "two", literal(1) == 1)),
}
WRITES: Final[dict[str, Any]] = {
    "update": update(ITEMS).values(note="changed"),
    "update by key": update(ITEMS).where(_I.id == ONE).values(note="changed"),
    "update, or": update(ITEMS).where(or_(_I.id == ONE, literal(1) == 1)).values(note="changed"),
    "update from": update(ITEMS).where(_P.item_id == _I.id).values(note=_P.name),
    "update from an alias": update(ITEMS)
    .where(_ALIAS.c.quantity >= _I.quantity)
    .values(note=_ALIAS.c.note + "!"),
    "update with a subselect": update(ITEMS).values(
        note=select(func.max(_P.name)).scalar_subquery()
    ),
    "update, exists": update(ITEMS).where(exists().where(_P.item_id == _I.id)).values(note="x"),
    "update with a cte": update(ITEMS).where(_I.id.in_(select(_CTE.c.id))).values(note="changed"),
    "delete": delete(ITEMS),
    "delete by key": delete(ITEMS).where(_I.id == ONE),
    "delete, in a subselect": delete(ITEMS).where(_I.id.in_(select(_P.item_id))),
    "upsert": upsert(ITEMS, on=[_I.sku], set={_I.note: "changed"}).values(
        id=UUID(int=9), sku="a", note="new", quantity=1
    ),
    "upsert by key": upsert(
        ITEMS, on=[_I.id], set={_I.quantity: _I.quantity + incoming(_I.quantity)}
    ).values(id=ONE, sku="z", note="new", quantity=1),
    "upsert that leaves alone": upsert(ITEMS, on=[_I.sku]).values(
        id=UUID(int=9), sku="a", note="new", quantity=1
    ),
    "insert": insert(ITEMS).values(id=UUID(int=9), sku="new", note="new", quantity=1),
    "insert of many": insert(ITEMS).values(
        [
            {"id": UUID(int=8), "sku": "x", "note": "x", "quantity": 1},
            {"id": UUID(int=9), "sku": "y", "note": "y", "quantity": 1},
        ]
    ),
    "insert with a subselect": insert(ITEMS).values(
        id=UUID(int=9), sku="new", quantity=1, note=select(func.max(_P.name)).scalar_subquery()
    ),
    "update, returning": update(ITEMS).values(note="changed").returning(_I.note),
    "delete, returning": delete(ITEMS).returning(_I.note),
}
_UNDECLARED: Final = table("parts", column("name"))
_UNSCOPED: Final = Table("unscoped", metadata(), Column("id", Integer, primary_key=True))
_PLATFORM: Final = Table("tenfold_outbox", metadata(), tenant(), Column("body", Text))
_ELSEWHERE: Final = Table("items", metadata(), tenant(), Column("note", Text), schema="other")
REFUSED: Final[dict[str, Any]] = {
    "text": text("SELECT 1"),
    "text in where": select(_I.note).where(text("1 = 1")),
    "text as a column": select(text("note")).select_from(ITEMS),
    "text as a table": select(literal(1)).select_from(text("items")),
    "textual columns": text("SELECT note FROM items").columns(_I.note),
    "a literal column": select(literal_column("(SELECT max(note) FROM items)")),
    "an undeclared table": select(_UNDECLARED.c.name),
    "a table without a tenant": select(_UNSCOPED.c.id),
    "the platform's table": select(_PLATFORM.c.body),
    "another schema": select(_ELSEWHERE.c.note),
    "an operator that is more": select(_I.note).where(_I.sku.op("= 'a' OR 1 =")("b")),
    "a prefix": insert(ITEMS).prefix_with("OR REPLACE").values(id=ONE, sku="a", quantity=1),
    "a hint": select(_I.note).with_hint(ITEMS, "NOT INDEXED"),
    "a hint on a statement": select(_I.note).with_statement_hint("-- nothing"),
    "a hint on an update": update(ITEMS).values(note="x").with_hint("NOT INDEXED"),
    "insert from select": insert(PARTS).from_select(
        ["id", "item_id", "name"], select(_P.id, _P.item_id, _P.name)
    ),
    "insert of a tenant": insert(PARTS).values(tenant="two", id=1, item_id=ONE, name="x"),
    "insert of a tenant, many": insert(PARTS).values(
        [{"tenant": "two", "id": 1, "item_id": ONE, "name": "x"}]
    ),
    "update of the tenant": update(ITEMS).values(tenant="two"),
    "update of the tenant, by column": update(ITEMS).values({_I.tenant: "two"}),
    "update of the tenant, in order": update(ITEMS).ordered_values((_I.tenant, "two")),
    "update of an alias": update(cast("Any", _ALIAS)).values(note="x"),
    "update of nothing": update(ITEMS),
    "a changing cte": select(delete(ITEMS).returning(_I.note).cte("gone").c.note),
    "no statement": func.max(_I.note),
}
