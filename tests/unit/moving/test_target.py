"""The database that is moved to: its foreign keys, while rows come in whichever order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.runtimes.moving.target import Target

pytestmark = pytest.mark.anyio
TABLES = """
CREATE TABLE shop.items (id int PRIMARY KEY);
CREATE TABLE shop.parts (id int PRIMARY KEY, item int REFERENCES shop.items)
"""
VALID = "SELECT convalidated FROM pg_constraint WHERE conname = 'parts_item_fkey'"


@pytest.fixture
async def there(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url)
    await create_platform_tables(connection, "shop")
    await connection.execute(TABLES)
    yield connection
    await connection.close()


async def moved(there: asyncpg.Connection[Any], *rows: str) -> Target:
    """A target at the end of a move that brought these rows, in this order."""
    target = Target(there, ["shop"])
    await target.begin("/data")
    await target.leave_references_out()
    for row in rows:
        await there.execute(f"INSERT INTO shop.{row}")
    await target.finish([], [], state="done", pause_ms=0)
    return target


async def test_foreign_keys_are_checked_when_all_rows_are_there(
    there: asyncpg.Connection[Any],
) -> None:
    target = await moved(there, "parts VALUES (1, 7)", "items VALUES (7)")
    assert await there.fetchval(VALID) is False
    assert await target.validate() == []
    assert await there.fetchval(VALID) is True


async def test_a_row_that_fits_no_foreign_key_does_not_undo_the_move(
    there: asyncpg.Connection[Any],
) -> None:
    target = await moved(there, "parts VALUES (1, 7)")
    (left,) = await target.validate()
    assert left.startswith('ALTER TABLE "shop"."parts" VALIDATE CONSTRAINT "parts_item_fkey": ')
    assert "(7)" in left
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # new rows have to fit
        await there.execute("INSERT INTO shop.parts VALUES (2, 8)")
