"""Tables that could mix tenants, or lose something, keep a module from starting."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import (
    Column,
    DateTime,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import Uuid as AnyUuid

from tenfold.tables.check import check_tables
from tenfold.tables.columns import metadata, tenant
from tenfold.tables.errors import TableDeclarationError
from tenfold.tables.upsert import upsert


def problem(*parts: Any, scoped: bool = True, name: str = "things") -> str:
    with pytest.raises(TableDeclarationError) as caught:
        check_tables("shop", [Table(name, metadata(), *parts)], scoped=scoped)
    message = str(caught.value)
    assert "'shop'" in message
    return message


def key() -> tuple[Column[Any], Column[Any]]:
    return tenant(), Column("id", Integer, primary_key=True)


def test_a_table_without_a_tenant() -> None:
    message = problem(Column("id", Integer, primary_key=True))
    assert "things: it has no tenant; put tenant() first" in message


def test_a_key_that_does_not_begin_with_the_tenant() -> None:
    message = problem(Column("id", Integer, primary_key=True), tenant())
    assert "primary key (id, tenant) does not begin with the tenant" in message


def test_a_unique_constraint_without_the_tenant_is_named() -> None:
    message = problem(*key(), Column("sku", Text), UniqueConstraint("sku", name="sku_taken"))
    assert "things: sku_taken over (sku) lacks the tenant" in message


def test_a_unique_column_and_a_unique_index_without_the_tenant() -> None:
    assert "over (sku) lacks" in problem(*key(), Column("sku", Text, unique=True))
    message = problem(*key(), Column("sku", Text), Index("by_sku", "sku", unique=True))
    assert "by_sku over (sku) lacks" in message


def test_a_reference_without_the_tenant() -> None:
    message = problem(
        *key(), Column("parent", Integer), ForeignKeyConstraint(["parent"], ["things.id"])
    )
    assert "the reference over (parent) lacks the tenant" in message


def test_a_reference_that_is_checked_at_the_commit() -> None:
    reference = ForeignKeyConstraint(
        ["tenant", "parent"],
        ["things.tenant", "things.id"],
        deferrable=True,
        initially="DEFERRED",
    )
    message = problem(*key(), Column("parent", Integer), reference)
    assert "the reference over (tenant, parent) is checked at the commit" in message


@pytest.mark.parametrize(
    ("type_", "mend"),
    [
        (DateTime(timezone=True), "columns.Instant"),
        (Numeric(10, 2), "columns.Exact"),
        (AnyUuid(), "columns.Uuid"),
    ],
)
def test_types_that_sqlite_would_store_inexactly(type_: Any, mend: str) -> None:
    message = problem(*key(), Column("value", type_))
    assert "things.value" in message
    assert mend in message


def test_the_platforms_names_and_other_schemas() -> None:
    assert "names with 'tenfold_' are the platform's" in problem(*key(), name="tenfold_x")
    with pytest.raises(TableDeclarationError, match="leave schema= out"):
        check_tables("shop", [Table("t", metadata(), *key(), schema="s")], scoped=True)


def test_every_problem_is_told_at_once() -> None:
    message = problem(Column("id", DateTime, primary_key=True), Column("n", Numeric))
    assert message.count("\n- ") == 3


def test_tables_that_are_right_pass() -> None:
    table = Table(
        "things",
        metadata(),
        *key(),
        Column("sku", Text),
        Column("ratio", Float),
        UniqueConstraint("tenant", "sku"),
        Index(None, "sku"),
    )
    check_tables("shop", [table], scoped=True)
    plain = Table("plain", metadata(), Column("id", Integer, primary_key=True))
    check_tables("shop", [plain], scoped=False)


def test_an_upsert_on_no_constraint_or_into_the_tenant_is_refused() -> None:
    table = Table("things", metadata(), *key(), Column("sku", Text))
    with pytest.raises(TableDeclarationError, match="It can be on: id"):
        upsert(table, on=[table.c.sku])
    with pytest.raises(TableDeclarationError, match="sets the tenant"):
        upsert(table, on=[table.c.id], set={table.c.tenant: "x"})
