"""Plans are made once, shared by shape, and go with their statements."""

from __future__ import annotations

import gc
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Column, Index, Integer, Table, Text, bindparam, func, insert, select, update

from tenfold.adapters.sqlite.constraints import constraint_of
from tenfold.adapters.sqlite.planner import Planner
from tenfold.contracts.scalars import Money
from tenfold.tables.columns import metadata, money, tenant
from tenfold.tables.errors import ParameterError, StatementRefusedError

META = metadata()
THINGS = Table(
    "things",
    META,
    tenant(),
    Column("id", Integer, primary_key=True),
    Column("name", Text),
    *money("price"),
)
GET = select(THINGS.c.name).where(THINGS.c.id == bindparam("id"))

LISTED = select(THINGS.c.id).where(THINGS.c.id.in_(bindparam("ids", expanding=True)))


@pytest.fixture
def planner() -> Planner:
    return Planner(module="shop", scoped=True, projections={})


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute(
        "CREATE TABLE things (tenant TEXT, id INTEGER, name TEXT, price_minor INTEGER,"
        " price_currency TEXT, PRIMARY KEY (tenant, id))"
    )
    yield made
    made.close()


def test_a_constant_is_planned_once(planner: Planner) -> None:
    assert planner.plan(GET) is planner.plan(GET)


def test_a_statement_that_is_gone_takes_its_plan_along(planner: Planner) -> None:
    for number in range(50):
        planner.plan(select(THINGS.c.name).where(THINGS.c.id == number))
    gc.collect()
    assert len(planner._plans) == 0
    assert len(planner._shapes) == 1


def test_shapes_are_bounded(planner: Planner) -> None:
    for number in range(300):
        planner.plan(select(THINGS.c.name.label(f"name_{number}")))
    assert len(planner._shapes) == 256


def test_list_texts_are_few_for_lists_of_many_lengths(planner: Planner) -> None:
    plan = planner.plan(
        select(THINGS.c.id).where(THINGS.c.id.in_(bindparam("ids", expanding=True)))
    )
    texts = {plan.render({"ids": list(range(n))}, "a", {})[0] for n in range(1, 1025)}
    assert len(texts) == 11


def test_a_list_that_sqlite_cannot_take_is_refused(planner: Planner) -> None:
    plan = planner.plan(
        select(THINGS.c.id).where(THINGS.c.id.in_(bindparam("ids", expanding=True)))
    )
    with pytest.raises(ParameterError, match=r"40,001 values; SQLite takes 32,766"):
        plan.render({"ids": list(range(40_000))}, "a", {})
    plan.render({"ids": list(range(32_000))}, "a", {})


def test_a_module_without_tenants_is_left_alone() -> None:
    plan = Planner(module="shop", scoped=False, projections={}).plan(GET)
    assert "tenant" not in plan.render({"id": 1}, "a", {})[0]


def test_rows_are_tuples_with_names(planner: Planner) -> None:
    count = func.count()
    plan = planner.plan(
        select(THINGS.c.name, count.label("count"), THINGS.c.price_minor, THINGS.c.price_currency)
    )
    row = plan.row(("x", 3, 255, "GBP"))
    assert row == ("x", 3, 255, "GBP")
    assert (row.name, row.count) == ("x", 3)
    assert row.price == Money.from_minor(255, "GBP")
    assert plan.columns == ("name", "count", "price_minor", "price_currency")
    assert plan.value(("x", 3, 255, "GBP")) == "x"


def test_which_statements_write(planner: Planner) -> None:
    assert not planner.plan(GET).writes
    assert planner.plan(insert(THINGS)).writes
    assert planner.plan(update(THINGS).values(name="x").returning(THINGS.c.id)).writes


def test_an_unknown_generation_is_told(planner: Planner) -> None:
    plan = Planner(module="shop", scoped=True, projections={"things": "past"}).plan(GET)
    with pytest.raises(StatementRefusedError, match=r"'past'.*has no generation"):
        plan.render({"id": 1}, "a", {})
    assert '"things__3" WHERE' in plan.render({"id": 1}, "a", {"past": 3})[0]


def test_a_default_computed_in_python_is_refused(planner: Planner) -> None:
    table = Table(
        "made",
        metadata(),
        tenant(),
        Column("id", Integer, primary_key=True),
        Column("at", Integer, default=lambda: 5),
    )
    with pytest.raises(StatementRefusedError, match=r"pass the value"):
        planner.plan(insert(table).values(id=1))


def test_what_sqlite_cannot_say_is_refused(planner: Planner) -> None:
    with pytest.raises(StatementRefusedError, match="cannot be written for SQLite"):
        planner.plan(insert(THINGS).values(id=1, nonsense=1))


def test_a_key_is_found_by_its_index_although_it_is_scoped(
    planner: Planner, connection: sqlite3.Connection
) -> None:
    other = THINGS.alias()
    joined = (
        select(other.c.name).outerjoin(THINGS, THINGS.c.id == other.c.id).where(other.c.id == 1)
    )
    for statement, parameters in ((GET, {"id": 1}), (joined, {})):
        sql, values = planner.plan(statement).render(parameters, "a", {})
        plan = connection.execute("EXPLAIN QUERY PLAN " + sql, values).fetchall()
        assert all("SEARCH" in row[3] and "tenant=? AND id=?" in row[3] for row in plan), plan


def test_plans_serve_several_threads(planner: Planner) -> None:
    def work(number: int) -> int:
        made: int = planner.plan(select(THINGS.c.name).where(THINGS.c.id == number)).render(
            {}, "a", {}
        )[1][1]
        return made

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(400))) == list(range(400))


def test_the_constraint_of_a_generation_has_its_declared_name() -> None:
    collection = metadata()
    table = Table(
        "t", collection, tenant(), Column("id", Integer, primary_key=True), Column("a", Text)
    )
    Index("by_a", table.c.tenant, table.c.a, unique=True)
    for text, name in (
        ("UNIQUE constraint failed: t__2.tenant, t__2.a", "by_a"),
        ("UNIQUE constraint failed: t__2.tenant, t__2.id", "t_key"),
        ("UNIQUE constraint failed: index 'by_expression__2'", "by_expression"),
        ("CHECK constraint failed: t_positive", "t_positive"),
        ("NOT NULL constraint failed: t__2.a", "t.a"),
        ("UNIQUE constraint failed: other.a", None),
        ("FOREIGN KEY constraint failed", None),
    ):
        assert constraint_of(sqlite3.IntegrityError(text), collection.tables) == name


def test_a_key_that_is_left_to_the_database_comes_back_only_when_asked_for() -> None:
    table = Table("counted", metadata(), Column("id", Integer, primary_key=True), Column("a", Text))
    planner = Planner(module="shop", scoped=False, projections={})
    add = insert(table).values(a=bindparam("a"))
    assert planner.plan(add).columns == ()
    returning = planner.plan(add.returning(table.c.id))
    made = sqlite3.connect(":memory:", isolation_level=None)
    made.execute("CREATE TABLE counted (id INTEGER PRIMARY KEY, a TEXT)")
    rows = [made.execute(*returning.render({"a": "x"}, "", {})).fetchall() for _ in range(2)]
    assert rows == [[(1,)], [(2,)]]
    made.close()
