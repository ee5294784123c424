"""One table between a file and a schema: copied, compared, and brought up to date."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from tenfold.adapters.postgres.schema import create_platform_tables as create_there
from tenfold.adapters.sqlite.schema import create_platform_tables as create_here
from tenfold.runtimes.moving.copying import TableMove
from tenfold.runtimes.moving.errors import MoveMismatchError, MoveRefusedError
from tenfold.runtimes.moving.move import MovePlan, move
from tenfold.runtimes.moving.tables import read_copies
from tenfold.runtimes.topology import load_product
from tests.faults.store_process import STORE

HERE = """
CREATE TABLE items (tenant TEXT, id BLOB, sku TEXT, at INTEGER, PRIMARY KEY (tenant, id),
    UNIQUE (tenant, sku))
"""
THERE = """
CREATE TABLE shop.items (tenant text, id uuid, sku text, at timestamptz, PRIMARY KEY (tenant, id),
    UNIQUE (tenant, sku))
"""


class Both:
    """A file and a schema, and the table that is moved."""

    def __init__(self, here: sqlite3.Connection, there: Any) -> None:
        self.here = here
        self.there = there
        self.read = 0

    async def table(self, name: str = "items") -> TableMove:
        copies = {each.name: each for each in await read_copies("shop", self.here, self.there)}
        return TableMove(copies[name], self.here, self.there, self._told)

    def _told(self, _: Any, rows: int) -> None:
        self.read += rows

    def put(self, *rows: tuple[int, str]) -> None:
        self.here.executemany(
            "INSERT INTO items VALUES ('main', ?, ?, 0) ON CONFLICT (tenant, id) "
            "DO UPDATE SET sku = excluded.sku",
            [(key(number), sku) for number, sku in rows],
        )

    async def skus(self) -> list[str]:
        rows = await self.there.fetch('SELECT sku FROM shop.items ORDER BY sku COLLATE "C"')
        return [row[0] for row in rows]


def key(number: int) -> bytes:
    return number.to_bytes(16, "big")


def at(*numbers: int) -> list[tuple[Any, ...]]:
    return [("main", key(number)) for number in numbers]


@pytest.fixture
async def both(postgres_url: str) -> AsyncIterator[Both]:
    here = sqlite3.connect(":memory:", isolation_level=None)
    here.execute(HERE)
    create_here(here)
    there = await asyncpg.connect(postgres_url)
    await create_there(there, "shop")
    await there.execute(THERE)
    yield Both(here, there)
    await there.close()
    here.close()


@pytest.mark.anyio
async def test_a_table_is_filled_compared_and_summed_up(both: Both) -> None:
    both.put(*((number, f"s{number:05}") for number in range(5_000)))
    table = await both.table()
    assert await table.fill()
    assert both.read == 5_000
    await table.compare()
    assert not table.differing
    assert table.sums.source == table.sums.target
    assert table.sums.source_rows == table.sums.target_rows == 5_000
    assert await table.counts() == (5_000, 5_000)
    assert not await table.fill()


@pytest.mark.anyio
async def test_what_differs_is_found_whichever_side_it_is_on(both: Both) -> None:
    both.put((1, "a"), (2, "b"), (3, "c"))
    table = await both.table()
    await table.fill()
    both.put((2, "changed"), (4, "new"))
    both.here.execute("DELETE FROM items WHERE id = ?", (key(3),))
    await table.compare()
    assert set(table.differing) == set(at(2, 3, 4))
    assert table.sums.source != table.sums.target
    assert await table.apply(at(1, 2, 3, 4, 5), counted=True) == 3
    assert await both.skus() == ["a", "changed", "new"]
    assert not table.differing
    assert (table.sums.source, table.sums.source_rows) == (table.sums.target, 3)
    anew = await both.table()
    await anew.compare()
    assert anew.sums.source == table.sums.source


@pytest.mark.anyio
async def test_values_that_are_unique_may_change_places(both: Both) -> None:
    both.put((1, "a"), (2, "b"))
    table = await both.table()
    await table.fill()
    both.put((1, "c"))
    both.put((2, "a"))
    both.put((1, "b"))
    await table.apply(at(1, 2), counted=False)
    rows = await both.there.fetch("SELECT sku FROM shop.items ORDER BY id")
    assert [row[0] for row in rows] == ["b", "a"]


@pytest.mark.anyio
async def test_a_target_that_alters_what_it_is_given_is_refused(both: Both) -> None:
    await both.there.execute(
        "CREATE FUNCTION shop.spoil() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN NEW.sku := 'spoilt'; RETURN NEW; END $$; "
        "CREATE TRIGGER spoil BEFORE INSERT ON shop.items FOR EACH ROW "
        "EXECUTE FUNCTION shop.spoil()"
    )
    both.put((1, "a"))
    table = await both.table()
    with pytest.raises(MoveMismatchError, match=r"did not keep a row of shop\.items"):
        await table.apply(at(1), counted=False)


@pytest.mark.anyio
async def test_a_table_without_a_key_is_refused(both: Both) -> None:
    both.here.execute("CREATE TABLE loose (v TEXT)")
    await both.there.execute("CREATE TABLE shop.loose (v text)")
    with pytest.raises(MoveRefusedError, match="'loose' of module 'shop' has no primary key"):
        await both.table()


@pytest.mark.anyio
async def test_a_column_that_the_target_lacks_is_refused(both: Both) -> None:
    both.here.execute("ALTER TABLE items ADD COLUMN extra TEXT")
    with pytest.raises(MoveRefusedError, match="has no extra in the target"):
        await both.table()


@pytest.mark.anyio
async def test_a_parked_entry_is_due_since_nobody_is_left_to_wake_it(both: Both) -> None:
    insert = (
        "INSERT INTO tenfold_queue (waits, priority, run_at, handler, generation, tenant, "
        "message_id, body) VALUES (?, 0, 0, 'h', 0, 'main', 'm', x'00')"
    )
    both.here.executemany(insert, [(state,) for state in (0, 1, 2, 3)])
    table = await both.table("tenfold_queue")
    await table.fill()
    rows = await both.there.fetch("SELECT waits FROM shop.tenfold_queue ORDER BY id")
    assert [row[0] for row in rows] == [0, 1, 2, 1]


@pytest.mark.anyio
async def test_a_source_without_data_is_refused(tmp_path: Path) -> None:
    source, target = (load_product(STORE, name) for name in ("prototype", "growth"))
    plan = MovePlan(source=msgspec.structs.replace(source, data_dir=tmp_path), target=target)
    with pytest.raises(MoveRefusedError, match=r"There is no catalog\.db"):
        await move(plan, lambda _: None)
    assert not list(tmp_path.glob("*.db"))
