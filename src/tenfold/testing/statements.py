"""What every database must do with a module's statements; run against each adapter.

An adapter's test subclasses `StatementCases` and gives it a fixture `statements`:
an empty database with the tables of `statement_shapes`, of a tenant-scoped module.
"""

from __future__ import annotations

import math
from datetime import date
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import (
    and_,
    bindparam,
    delete,
    insert,
    select,
    tuple_,
    update,
)

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
    READS,
    REFUSED,
    TOTALS,
    TWO,
    WRITES,
)
from tenfold.testing.statement_values import Ran, Statements, ValueCases

__all__ = ["Ran", "StatementCases", "Statements"]

_I: Final = ITEMS.c


def _hash(rows: list[Any]) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in rows]


class StatementCases(ValueCases):
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
