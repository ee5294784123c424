"""What every database must do with a module's statements; run against each adapter.

An adapter's test subclasses `StatementCases` and gives it a fixture `statements`:
an empty database with the tables of `statement_shapes`, of a tenant-scoped module.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final, Protocol
from uuid import UUID

import pytest
from sqlalchemy import (
    Text,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.scalars import Money
from tenfold.contracts.structs import Struct
from tenfold.tables.errors import ParameterError, RowShapeError, StatementRefusedError
from tenfold.tables.search import matches
from tenfold.tables.upsert import incoming, upsert
from tenfold.testing.statement_shapes import (
    ADD,
    ADD_PART,
    ALL,
    ITEMS,
    ONE,
    PARTS,
    READS,
    REFUSED,
    TOTALS,
    TWO,
    WRITES,
    Tag,
)

__all__ = ["Ran", "StatementCases", "Statements"]

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


def _hash(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


class StatementCases:
    """The cases. See the module's docstring."""

    @pytest.fixture
    async def two_tenants(self, statements: Statements) -> Statements:
        """The same keys for two tenants; every note says whose it is."""
        for who in ("one", "two"):
            for number, sku in ((1, "a"), (2, "b")):
                await statements.run(
                    ADD, who, id=UUID(int=number), sku=sku, note=f"{sku} of {who}", quantity=number
                )
            await statements.run(ADD_PART, who, id=1, item_id=ONE, name=f"part of {who}")
        return statements

    @pytest.mark.anyio
    @pytest.mark.parametrize("shape", READS)
    async def test_a_read_sees_its_tenant_only(self, two_tenants: Statements, shape: str) -> None:
        """No shape of SELECT shows another tenant's row, and each shows its own."""
        for who, other in (("one", "two"), ("two", "one")):
            rows = (await two_tenants.run(READS[shape], who)).rows
            notes = [row.note for row in rows if row.note is not None]
            assert notes
            assert all(note.endswith(who) and other not in note for note in notes)
        assert (await two_tenants.run(READS[shape], "three")).rows in ([], [(None,)])

    @pytest.mark.anyio
    @pytest.mark.parametrize("shape", WRITES)
    async def test_a_write_alters_its_tenant_only(
        self, two_tenants: Statements, shape: str
    ) -> None:
        """No shape of write alters another tenant's row, or puts that tenant's data into one."""
        before = _hash((await two_tenants.run(ALL, "two")).rows)
        own = _hash((await two_tenants.run(ALL, "one")).rows)
        ran = await two_tenants.run(WRITES[shape], "one")
        assert _hash((await two_tenants.run(ALL, "two")).rows) == before
        after = _hash((await two_tenants.run(ALL, "one")).rows)
        assert (after != own) is (shape != "upsert that leaves alone")
        assert not [row for row in after if "two" in row[2]]
        assert not [row for row in ran.rows if "two" in row.note]
        assert (await two_tenants.run(ALL, "three")).rows == []

    @pytest.mark.anyio
    @pytest.mark.parametrize("shape", REFUSED)
    async def test_what_cannot_be_scoped_is_refused(
        self, two_tenants: Statements, shape: str
    ) -> None:
        """The refusal says that nothing ran, and nothing did."""
        before = _hash((await two_tenants.run(ALL, "one")).rows)
        with pytest.raises(StatementRefusedError, match="Nothing was run"):
            await two_tenants.run(REFUSED[shape], "one")
        assert _hash((await two_tenants.run(ALL, "one")).rows) == before

    @pytest.mark.anyio
    async def test_injection_stays_a_value(self, two_tenants: Statements) -> None:
        """SQL in a parameter is text, in every place where a parameter can stand."""
        for evil in ("' OR '1'='1", "a'; DROP TABLE items; --", '" OR ""="', "\\", "%", "?", ":id"):
            found = await two_tenants.run(
                select(_I.note).where(_I.sku == bindparam("sku")), "one", sku=evil
            )
            assert found.rows == []
            assert (await two_tenants.run(select(_I.note).where(_I.sku == evil), "one")).rows == []
            changed = update(ITEMS).where(_I.id == ONE).values(note=bindparam("note"))
            await two_tenants.run(changed, "one", note=evil)
            assert (await two_tenants.run(ALL, "one")).rows[0].note == evil
            assert (await two_tenants.run(ALL, evil)).rows == []
        assert len((await two_tenants.run(ALL, "two")).rows) == 2

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
            (cast(_I.quantity, Text), None),
        ]
        for expression, wanted in asked:
            answer = (await statements.run(select(expression.label("x")))).rows[0][0]
            if wanted is not None:
                found = (str(expression), answer, type(answer), str(answer))
                assert found[1:] == (wanted, type(wanted), str(wanted)), found
        window = func.sum(_I.quantity).over(order_by=_I.sku).label("n")
        rows = (await statements.run(select(window))).rows
        assert sorted(rows) == [(2**40,), (total,)]
        assert {type(row.n) for row in rows} == {int}

    @pytest.mark.anyio
    async def test_rows_become_structs_by_name(self, two_tenants: Statements) -> None:
        """Money is put together of its two columns; what the struct lacks is left out."""

        await two_tenants.run(
            update(ITEMS)
            .where(_I.id == ONE)
            .values(
                price_minor=bindparam("price_minor"), price_currency=bindparam("price_currency")
            ),
            price=Money.from_minor(255, "GBP"),
        )
        found = await two_tenants.run(select(ITEMS).order_by(_I.sku), into=_Shown)
        assert found.rows == [
            _Shown(id=ONE, sku="a", price=Money.from_minor(255, "GBP")),
            _Shown(id=TWO, sku="b", price=None),
        ]

    @pytest.mark.anyio
    async def test_a_row_that_is_no_such_struct_is_told(self, two_tenants: Statements) -> None:
        """What was found, and what is missing."""
        with pytest.raises(RowShapeError, match=r"cannot become _Shown.*`price`.*It has: id, sku"):
            await two_tenants.run(select(_I.id, _I.sku), into=_Shown)

    @pytest.mark.anyio
    async def test_wrong_parameters_are_named(self, statements: Statements) -> None:
        """Missing and unknown ones, and those that the statement takes."""
        statement = select(_I.id).where(_I.sku == bindparam("sku"))
        with pytest.raises(ParameterError, match=r"missing: sku; unknown: skuu.*It takes: sku"):
            await statements.run(statement, skuu="a")
        with pytest.raises(ParameterError, match="unknown: more"):
            await statements.run(statement, sku="a", more=1)
        with pytest.raises(ParameterError, match="not a list"):
            await statements.run(select(_I.id).where(_I.sku.in_(bindparam("skus"))), skus="abc")
        with pytest.raises(ParameterError, match="not Money"):
            await statements.run(
                select(_I.id).where(
                    _I.price_minor == bindparam("price_minor"),
                    _I.price_currency == bindparam("price_currency"),
                ),
                price=5,
            )

    @pytest.mark.anyio
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 64, 1000])
    async def test_lists_of_any_length(self, two_tenants: Statements, size: int) -> None:
        """IN and NOT IN, with none and with many, mean what they say."""
        ids = [UUID(int=number) for number in range(1, size + 1)]
        listed: Any = bindparam("ids", expanding=True)
        within = await two_tenants.run(select(_I.id).where(_I.id.in_(listed)), ids=ids)
        without = await two_tenants.run(select(_I.id).where(_I.id.not_in(listed)), ids=ids)
        assert {row.id for row in within.rows} == {ONE, TWO} & set(ids)
        assert {row.id for row in without.rows} == {ONE, TWO} - set(ids)
        pairs: Any = bindparam("pairs", expanding=True)
        both = select(_I.id).where(tuple_(_I.id, _I.sku).in_(pairs))
        found = await two_tenants.run(both, pairs=[(each, "a") for each in ids])
        assert {row.id for row in found.rows} == {ONE} & set(ids)

    @pytest.mark.anyio
    async def test_statements_that_differ_in_literals_keep_them_apart(
        self, two_tenants: Statements
    ) -> None:
        """Statements that are built in a handler share a plan, never its values."""
        for sku, number in (("a", 1), ("b", 2), ("a", 1)):
            built = select(_I.quantity).where(_I.sku == sku, _I.quantity.in_([number, number]))
            assert _hash((await two_tenants.run(built)).rows) == [(number,)]

    @pytest.mark.anyio
    async def test_upsert_counts_the_existing_and_the_incoming(
        self, statements: Statements
    ) -> None:
        """Insert, then add; where its condition does not hold, the row stays."""
        add = upsert(
            ITEMS,
            on=[_I.sku],
            set={_I.quantity: _I.quantity + incoming(_I.quantity), _I.note: bindparam("again")},
            where=and_(_I.quantity < bindparam("limit"), incoming(_I.quantity) > 0),
        ).values({name: bindparam(name) for name in ("id", "sku", "note", "quantity")})
        given: dict[str, Any] = {"sku": "a", "note": "first", "again": "again", "limit": 5}
        for number, quantity in ((1, 3), (2, 4), (3, 5)):
            await statements.run(add, id=UUID(int=number), quantity=quantity, **given)
        assert _hash((await statements.run(ALL)).rows) == [(ONE, "a", "again", 7)]

    @pytest.mark.anyio
    async def test_constraints_are_named_when_they_are_broken(
        self, two_tenants: Statements
    ) -> None:
        """Unique constraints, unique indexes, keys, checks, and columns that need a value."""
        new: dict[str, Any] = {"id": UUID(int=7), "sku": "z", "note": "", "quantity": 1}
        assert await two_tenants.violated(ADD, **{**new, "sku": "a"}) == "sku_taken"
        assert await two_tenants.violated(ADD, **{**new, "id": ONE}) == "items_key"
        assert (
            await two_tenants.violated(ADD, **{**new, "quantity": -1})
            == "items_quantity_not_negative"
        )
        assert await two_tenants.violated(ADD, **{**new, "sku": None}) == "items.sku"
        same = update(ITEMS).values(day=bindparam("day"), quantity=bindparam("quantity"))
        assert await two_tenants.violated(same, day=date(2026, 1, 1), quantity=1) == "items_by_day"

    @pytest.mark.anyio
    async def test_a_default_is_used_where_a_value_is_left_out(
        self, statements: Statements
    ) -> None:
        """A constant default, and the database's own."""
        await statements.run(insert(ITEMS).values(id=ONE, sku="a"))
        assert _hash((await statements.run(ALL)).rows) == [(ONE, "a", "", 0)]

    @pytest.mark.anyio
    async def test_search_finds_words_and_their_beginnings(self, statements: Statements) -> None:
        """Every word must occur; case and accents do not matter; changes are followed."""
        notes = ["Blue Café Chair", "blue table", "Red chair"]
        for number, note in enumerate(notes, 1):
            await statements.run(ADD, id=UUID(int=number), sku=note, note=note, quantity=1)
        find = select(_I.note).where(matches(_I.note, bindparam("typed"))).order_by(_I.note)

        async def found(typed: str) -> list[str]:
            return [row.note for row in (await statements.run(find, typed=typed)).rows]

        assert await found("BLUE") == ["Blue Café Chair", "blue table"]
        assert await found("cha blu") == ["Blue Café Chair"]
        assert await found("cafe") == ["Blue Café Chair"]
        assert await found("hair") == []
        await statements.run(update(ITEMS).where(_I.id == ONE).values(note="Green stool"))
        assert await found("blue") == ["blue table"]
        assert await found("stool") == ["Green stool"]
        await statements.run(delete(ITEMS).where(_I.id == TWO))
        assert await found("blue") == []

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "typed",
        [
            *["", " ", '"', "'", "AND", "a OR b", "NEAR(", "note:", "*", "(", "-a", "^", "a\x00b"],
            *["é", "𝔘nï", "; DROP", "{note}:", "+", "a*b", '""""', "\\", "😀", "a" * 5000],
        ],
    )
    async def test_nothing_that_people_type_is_syntax(
        self, two_tenants: Statements, typed: str
    ) -> None:
        """Whatever is searched for, the search answers."""
        find = select(_I.note).where(matches(_I.note, bindparam("typed")))
        assert len((await two_tenants.run(find, typed=typed)).rows) <= 2

    @pytest.mark.anyio
    async def test_each_generation_of_a_projection_has_its_own_rows(
        self, statements: Statements
    ) -> None:
        """The same statements, on whichever generation is meant."""
        add = upsert(
            TOTALS,
            on=[TOTALS.c.sku],
            set={TOTALS.c.total: TOTALS.c.total + incoming(TOTALS.c.total)},
        )
        read = select(TOTALS.c.total).where(TOTALS.c.sku == "a")
        for generation, amount in ((1, 5), (2, 7), (1, 1)):
            await statements.run(add, generation=generation, sku="a", total=amount)
        await statements.run(update(TOTALS).values(total=TOTALS.c.total * 10), generation=2)
        assert _hash((await statements.run(read, generation=1)).rows) == [(6,)]
        assert _hash((await statements.run(read, generation=2)).rows) == [(70,)]
        assert (await statements.run(read, "two", generation=1)).rows == []
        assert (await statements.run(delete(TOTALS), generation=2)).changed == 1
        assert _hash((await statements.run(read, generation=1)).rows) == [(6,)]

    @pytest.mark.anyio
    async def test_changed_rows_are_counted(self, two_tenants: Statements) -> None:
        """As many as the statement changed, of its own tenant."""
        ran = await two_tenants.run(update(ITEMS).values(quantity=_I.quantity + 1))
        assert ran.changed == 2
        assert (await two_tenants.run(delete(ITEMS).where(_I.sku == "none"))).changed == 0
        assert math.isclose((await two_tenants.run(delete(ITEMS))).changed, 2)


class _Shown(Struct):
    id: UUID
    sku: str
    price: Money | None
