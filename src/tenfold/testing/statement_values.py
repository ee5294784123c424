"""What every database must do with the values of a module's tables. See `statements`."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

import pytest
from sqlalchemy import (
    Text,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal,
    select,
    update,
)

from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.scalars import Money
from tenfold.contracts.structs import Struct
from tenfold.tables.errors import ParameterError
from tenfold.testing.statement_shapes import (
    ADD,
    ADD_PART,
    ITEMS,
    KINDS,
    ONE,
    PARTS,
    TWO,
    Colour,
    Tag,
)

__all__ = ["Ran", "Statements", "ValueCases"]

_I: Final = ITEMS.c


class Ran(Struct):
    """What a statement answered: its rows, and how many rows it changed."""

    rows: list[Any]
    changed: int


class Statements(Protocol):
    """A database that runs statements, each committed by itself."""

    async def run(
        self,
        statement: Any,
        /,
        tenant: str = "one",
        *,
        generation: int = 1,
        into: type | None = None,
        **parameters: Any,
    ) -> Ran:
        """Run one statement for a tenant; rows are structs where `into` is given."""
        ...

    async def violated(
        self, statement: Any, /, tenant: str = "one", **parameters: Any
    ) -> str | None:
        """Run a statement that breaks a constraint; returns that constraint's name."""
        ...


class ValueCases:
    """The cases."""

    @pytest.mark.anyio
    async def test_every_type_comes_back_as_it_went(self, statements: Statements) -> None:
        """Identifiers, moments, days, money, decimals, JSON, and nothing at all."""
        moment = datetime(2026, 3, 29, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-3)))
        values: dict[str, Any] = {
            "id": ONE,
            "sku": "Ünï \x01 'q'",
            "note": "",
            "quantity": 7,
            "price": Money.from_minor(-255, "GBP"),
            "at": moment,
            "day": date(1969, 12, 31),
            "weight": Decimal("-0.125"),
            "tags": [Tag(name="x", weight=2)],
        }
        names = [each.name for each in ITEMS.columns if each.name != "tenant"]
        every = insert(ITEMS).values({name: bindparam(name) for name in names})
        await statements.run(every, **values)
        row = (await statements.run(select(ITEMS))).rows[0]
        found = {name: getattr(row, name) for name in values}
        assert found == values
        assert {name: type(value) for name, value in found.items()} == {
            name: type(value) for name, value in values.items()
        }
        assert row.at.tzinfo is UTC or row.at.utcoffset() == timedelta(0)
        nothing: dict[str, Any] = dict.fromkeys(["price", "at", "day", "weight", "tags"])
        await statements.run(every, id=TWO, sku="b", note="", quantity=0, **nothing)
        empty = (await statements.run(select(ITEMS).where(_I.id == TWO))).rows[0]
        assert {name: getattr(empty, name) for name in nothing} == nothing

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("id", "not a uuid"),
            ("id", b"0123456789abcdef"),
            ("at", datetime(2026, 1, 1)),  # noqa: DTZ001
            ("at", "2026-01-01"),
            ("day", datetime(2026, 1, 1, tzinfo=UTC)),
            ("weight", 0.5),
            ("weight", Decimal("0.1234")),
            ("weight", Decimal("NaN")),
            ("price_minor", 2.55),
            ("price_minor", Decimal("2.55")),
            ("price_minor", 2**63),
            ("tags", [{"name": 1}]),
            ("sku", 5),
            ("sku", b"bytes"),
            ("quantity", "7"),
            ("quantity", 7.0),
            ("quantity", 2**63),
            ("tags", object()),
        ],
    )
    async def test_what_would_be_stored_inexactly_is_refused(
        self, statements: Statements, name: str, value: Any
    ) -> None:
        """Naive moments, floats, roundings and other shapes are no values of a column."""
        with pytest.raises(ParameterError, match="cannot be stored"):
            await statements.run(update(ITEMS).values({name: bindparam("given")}), given=value)

    @pytest.mark.anyio
    @pytest.mark.parametrize(("name", "value"), [("sku", "a\0b"), ("tags", [Tag(name="\0")])])
    async def test_a_nul_in_a_text_is_a_wrong_argument(
        self, statements: Statements, name: str, value: Any
    ) -> None:
        """PostgreSQL cannot store one; a backslash before `u0000` is something else."""
        change = update(ITEMS).values({name: bindparam("given")})
        with pytest.raises(InvalidArgumentsError, match="character NUL"):
            await statements.run(change, given=value)
        await statements.run(ADD, id=ONE, sku="a", note="\\u0000", quantity=1)
        kept = [Tag(name="\\u0000")]
        await statements.run(update(ITEMS).values(tags=bindparam("given")), given=kept)
        assert (await statements.run(select(_I.tags))).rows == [(kept,)]

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("flag", [True, False]),
            ("colour", [Colour.RED, Colour.BLUE]),
            ("raw", [b"\x00\xff", b""]),
            ("ratio", [0.1, -1e300]),
            ("short", ["longer than two", ""]),
            ("at", [datetime(2026, 1, 1, tzinfo=UTC), datetime(1, 2, 3, tzinfo=UTC)]),
            ("day", [date(2026, 1, 1), date(1, 2, 3)]),
            ("weight", [Decimal("1.125"), Decimal("-0.500")]),
        ],
    )
    async def test_a_kind_of_value_is_kept_and_found(
        self, statements: Statements, name: str, values: list[Any]
    ) -> None:
        """By equality, in lists, in place of nothing, and after a change."""
        column = KINDS.c[name]
        rest = dict.fromkeys(each.name for each in KINDS.c if each.name not in ("tenant", "id"))
        for number, value in enumerate([*values, None], 1):
            await statements.run(insert(KINDS), **{**rest, name: value, "id": number})

        async def ids(condition: Any, **given: Any) -> list[int]:
            asked = select(KINDS.c.id).where(condition).order_by(KINDS.c.id)
            return [row.id for row in (await statements.run(asked, **given)).rows]

        kept = (await statements.run(select(column).order_by(KINDS.c.id))).rows
        assert [row[0] for row in kept] == [*values, None]
        assert [type(row[0]) for row in kept[:2]] == [type(value) for value in values]
        assert await ids(column == bindparam("given"), given=values[0]) == [1]
        assert await ids(column == values[1]) == [2]
        assert await ids(column.in_(bindparam("given", expanding=True)), given=values) == [1, 2]
        assert await ids(column.not_in([values[0]])) == [2]
        assert await ids(column.is_(None)) == [3]
        typed: Any = bindparam("given", type_=column.type)
        assert await ids(func.coalesce(column, typed) == values[1], given=values[1]) == [2, 3]
        change = update(KINDS).where(KINDS.c.id == 3).values({name: values[0]}).returning(column)
        assert (await statements.run(change)).rows == [(values[0],)]

    @pytest.mark.anyio
    async def test_text_is_ordered_and_matched_alike(self, statements: Statements) -> None:
        """By its bytes; LIKE whatever the case of ASCII letters, without an escape of its own."""
        skus = ["B", "a", "Z", "É", "é", "_", "a-b", "ab", "a\\b"]
        for number, sku in enumerate(skus, 1):
            await statements.run(ADD, id=UUID(int=number), sku=sku, note="", quantity=1)

        async def found(statement: Any) -> list[str]:
            return [row.sku for row in (await statements.run(statement)).rows]

        every = select(_I.sku).order_by(_I.sku)
        assert await found(every) == sorted(skus)
        assert await found(select(_I.sku).order_by(_I.sku.desc())) == sorted(skus, reverse=True)
        assert await found(every.where(_I.sku > "a")) == [sku for sku in sorted(skus) if sku > "a"]
        assert await found(every.where(_I.sku.like("A%"))) == ["a", "a-b", "a\\b", "ab"]
        assert await found(every.where(_I.sku.like("É"))) == ["É"]
        assert await found(every.where(_I.sku.ilike("z"))) == ["Z"]
        assert await found(every.where(_I.sku.like("a\\%"))) == ["a\\b"]
        assert await found(every.where(_I.sku.startswith("_", autoescape=True))) == ["_"]
        assert await found(every.where(_I.sku.not_like("A%"))) == ["B", "Z", "_", "É", "é"]
        assert await found(every.where(func.lower(_I.sku) == "é")) == ["é"]

    @pytest.mark.anyio
    async def test_nulls_come_before_everything(self, statements: Statements) -> None:
        """In every order: of rows, of windows, of what an outer join lacks; unless it is said."""
        for number, day in ((1, date(2026, 1, 2)), (2, None), (3, date(2026, 1, 1))):
            await statements.run(ADD, id=UUID(int=number), sku=f"{number}", note="", quantity=1)
            change = update(ITEMS).where(_I.id == UUID(int=number)).values(day=bindparam("given"))
            await statements.run(change, given=day)
        await statements.run(ADD_PART, id=1, item_id=UUID(int=1), name="x")

        async def order(*by: Any) -> str:
            rows = (await statements.run(select(_I.sku).order_by(*by))).rows
            return "".join(row.sku for row in rows)

        assert await order(_I.day) == "231"
        assert await order(_I.day.desc()) == "132"
        assert await order(_I.day.nulls_last()) == "312"
        assert await order(_I.day.desc().nulls_first()) == "213"
        rank = func.row_number().over(order_by=_I.day).label("rank")
        ranked = (await statements.run(select(_I.sku, rank))).rows
        assert sorted(ranked, key=lambda row: row.rank) == [("2", 1), ("3", 2), ("1", 3)]
        joined = select(_I.sku).outerjoin(PARTS, PARTS.c.item_id == _I.id)
        rows = (await statements.run(joined.order_by(PARTS.c.name, _I.sku))).rows
        assert [row.sku for row in rows] == ["2", "3", "1"]

    @pytest.mark.anyio
    async def test_what_is_computed_comes_in_the_same_type(self, statements: Statements) -> None:
        """Sums of whole numbers are whole, of decimals exact; averages are floats."""
        given = [("a", 2**40, "0.125"), ("b", 5, "1.5")]
        for number, (sku, quantity, weight) in enumerate(given, 1):
            await statements.run(ADD, id=UUID(int=number), sku=sku, note="", quantity=quantity)
            change = (
                update(ITEMS)
                .where(_I.sku == sku)
                .values(
                    weight=bindparam("weight"), price_minor=bindparam("minor"), price_currency="GBP"
                )
            )
            await statements.run(change, weight=Decimal(weight), minor=quantity)
        total = 2**40 + 5
        asked: list[tuple[Any, Any]] = [
            (func.sum(_I.quantity), total),
            (func.sum(_I.price_minor), total),
            (func.sum(_I.weight), Decimal("1.625")),
            (func.max(_I.weight), Decimal("1.500")),
            (func.avg(_I.quantity), total / 2),
            (func.count(_I.id), 2),
            (func.max(_I.id), UUID(int=2)),
            (func.min(_I.id), UUID(int=1)),
            (func.coalesce(func.sum(_I.quantity), 0), total),
            (func.sum(case((_I.sku == "a", 1), else_=0)), 1),
            (select(func.sum(_I.quantity).label("n")).subquery().c.n, total),
            (func.coalesce(bindparam("absent", None, Text()), "default"), "default"),
            (literal("text"), "text"),
            (func.max(cast(_I.quantity, Text)), "5"),
        ]
        for expression, wanted in asked:
            answer = (await statements.run(select(expression.label("x")))).rows[0][0]
            found = (str(expression), answer, type(answer), str(answer))
            assert found[1:] == (wanted, type(wanted), str(wanted)), found
        half = (await statements.run(select((func.max(_I.quantity) / 2).label("x")))).rows[0].x
        assert (half, type(half)) == (2**39, Decimal)
        window = func.sum(_I.quantity).over(order_by=_I.sku).label("n")
        rows = (await statements.run(select(window))).rows
        assert sorted(rows) == [(2**40,), (total,)]
        assert {type(row.n) for row in rows} == {int}
