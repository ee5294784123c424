"""Rows are changed in batches, each once, again after a kill, while others write."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.migrate import MigrationLimits, migrate, pending, read_state
from tenfold.tables.backfilling import BackfillProgress
from tests.unit.postgres.test_migrate import folder, revision

pytestmark = pytest.mark.anyio

ROWS = 1_050
FIRST = revision(
    1,
    'op.execute("CREATE TABLE things (tenant text, id uuid, n int, fills int DEFAULT 0, '
    'PRIMARY KEY (tenant, id))")',
)
FILL = revision(2, 'op.execute("CREATE TABLE filled (id int)")').replace(
    "def upgrade",
    "from tenfold.tables.backfilling import Backfill\n"
    'backfill = Backfill(table="things", key=("tenant", "id"), batch=100, pause_s=0.0, '
    'values={"fills": "fills + 1", "n": {"postgresql": "length(tenant)", "sqlite": "0"}}, '
    'where="n IS NULL")\n'
    "def upgrade",
)
INSERT = """
INSERT INTO shop.things (tenant, id)
SELECT (ARRAY['a', 'o''hara', 'ß', ''])[1 + i % 4], gen_random_uuid() FROM generate_series(1, $1) i
"""
FILLED = "SELECT count(*) FROM shop.things WHERE fills = 1 AND n = length(tenant)"


@pytest.fixture
async def shop(postgres_url: str, tmp_path: Path) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A client of a database with rows to fill."""
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(INSERT, ROWS)
    yield connection
    await connection.close()


def filling(tmp_path: Path) -> Path:
    return folder(tmp_path, FIRST, FILL)


async def test_every_row_is_filled_once_and_progress_is_told(
    postgres_url: str, shop: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = filling(tmp_path)
    heard: list[BackfillProgress] = []
    assert await migrate(postgres_url, "shop", steps, phases=("before",)) == []
    assert await migrate(postgres_url, "shop", steps, on_batch=heard.append) == ["0002"]
    assert await shop.fetchval(FILLED) == ROWS
    assert len(heard) == 11
    assert [progress.ended for progress in heard] == [False] * 10 + [True]
    assert heard[4].said == "0002: 500 of about 1,050 rows (47 %)"
    assert heard[-1].said == "0002: done, 1,050 rows changed"
    assert await pending(postgres_url, "shop", steps) == []


async def test_when_its_time_is_up_it_stops_and_goes_on_with_the_next_run(
    postgres_url: str, shop: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = filling(tmp_path)
    none = MigrationLimits(backfill_s=0.0)
    assert await migrate(postgres_url, "shop", steps, limits=none) == []
    assert await migrate(postgres_url, "shop", steps, limits=none) == []
    _, (progress,) = await read_state(postgres_url, "shop")
    assert (progress.seen, progress.changed, progress.ended) == (200, 200, False)
    assert await shop.fetchval("SELECT to_regclass('shop.filled')") is None
    assert await pending(postgres_url, "shop", steps) == ["0002"]
    assert await migrate(postgres_url, "shop", steps) == ["0002"]
    assert await shop.fetchval(FILLED) == ROWS


async def test_killed_in_the_middle_it_goes_on_where_it_was(
    postgres_url: str, shop: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = filling(tmp_path)
    code = (
        "import asyncio, os, signal; from pathlib import Path\n"
        "from tenfold.adapters.postgres.migrate import migrate\n"
        "def heard(progress):\n"
        "    if progress.seen >= 300: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"asyncio.run(migrate({postgres_url!r}, 'shop', Path({str(steps)!r}), on_batch=heard))"
    )
    ended = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert await shop.fetchval(FILLED) == 300
    assert await migrate(postgres_url, "shop", filling(tmp_path)) == ["0002"]
    assert await shop.fetchval(FILLED) == ROWS


async def test_it_waits_for_a_row_that_somebody_holds_and_others_write_meanwhile(
    postgres_url: str, shop: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = filling(tmp_path)
    limits = MigrationLimits(lock_timeout_s=0.1)
    other = await asyncpg.connect(postgres_url)
    async with shop.transaction():
        last = "SELECT tenant, id FROM shop.things ORDER BY tenant DESC, id DESC LIMIT 1 FOR UPDATE"
        await shop.fetchrow(last)
        filled = asyncio.create_task(migrate(postgres_url, "shop", steps, limits=limits))
        while await other.fetchval(FILLED) < 1_000:
            await asyncio.sleep(0.01)
        await other.execute("UPDATE shop.things SET fills = fills WHERE tenant = 'a'")
        assert not filled.done()
    assert await filled == ["0002"]
    assert await other.fetchval(FILLED) == ROWS
    await other.close()


async def test_an_empty_table_has_nothing_to_fill(postgres_url: str, tmp_path: Path) -> None:
    steps = filling(tmp_path)
    assert await migrate(postgres_url, "new", steps) == ["0001", "0002"]
    heads, (progress,) = await read_state(postgres_url, "new")
    assert heads == ("0002",)
    assert (progress.changed, progress.ended) == (0, True)
