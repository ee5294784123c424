"""A migration among others at work: it gives way, says who is in its way, and cleans up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.migrate import MigrationLimits, migrate
from tenfold.tables.errors import MigrationError
from tests.unit.postgres.test_migrate import FIRST, folder, names, revision

pytestmark = pytest.mark.anyio

WIDEN = revision(2, 'op.execute("ALTER TABLE things ADD COLUMN kind text")')
INDEX = revision(
    2,
    "op.create_index('things_name', 'things', ['name'], "
    "postgresql_concurrently=True, if_not_exists=True)",
) + "\ntransactional = False\n"  # fmt: skip
VALID = """
SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('shop.things_name')
"""


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Another client of the database."""
    connection = await asyncpg.connect(
        postgres_url, server_settings={"application_name": "the report"}
    )
    yield connection
    await connection.close()


async def waiting(connection: asyncpg.Connection[Any], text: str) -> None:
    """Return when a statement waits for a lock."""
    seen = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type IN ('Lock', 'LWLock') AND query ILIKE '%' || $1 || '%'"
    )
    while not await connection.fetchval(seen, text):
        await asyncio.sleep(0.005)


async def test_readers_go_on_while_a_revision_waits_for_a_table(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, WIDEN)
    limits = MigrationLimits(lock_timeout_s=0.1)
    reader = await asyncpg.connect(postgres_url)
    loop = asyncio.get_running_loop()
    longest, reads = 0.0, 0
    async with other.transaction():
        await other.execute("SELECT * FROM shop.things")  # it holds the table until it ends
        migrating = asyncio.create_task(migrate(postgres_url, "shop", steps, limits=limits))
        await waiting(reader, "ADD COLUMN kind")
        until = loop.time() + 2.0
        while loop.time() < until:
            began = loop.time()
            await reader.fetch("SELECT name FROM shop.things")
            longest, reads = max(longest, loop.time() - began), reads + 1
        assert not migrating.done()
    assert await migrating == ["0002"]
    await reader.close()
    # Nobody waited for longer than one attempt, and between attempts all went on.
    assert longest < 1.0
    assert reads > 50


async def test_who_holds_the_table_is_told(
    postgres_url: str,
    other: asyncpg.Connection[Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, WIDEN)
    limits = MigrationLimits(lock_timeout_s=0.3, retry_s=0.5)
    async with other.transaction():
        await other.execute("LOCK TABLE shop.things IN ACCESS SHARE MODE")
        with (
            caplog.at_level(logging.WARNING, "tenfold.migrations"),
            pytest.raises(MigrationError) as told,
        ):
            await migrate(postgres_url, "shop", steps, limits=limits)
    who = rf"process {other.get_server_pid()} of the server (the report, idle in transaction"
    assert who in str(told.value)
    assert "LOCK TABLE shop.things" in str(told.value)
    assert who in caplog.text
    assert await migrate(postgres_url, "shop", steps) == ["0002"]


async def test_a_statement_that_holds_its_locks_for_long_is_ended(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    slow = revision(1, 'op.execute("CREATE TABLE made (id int)"); op.execute("SELECT pg_sleep(1)")')
    limits = MigrationLimits(statement_timeout_s=0.2)
    with pytest.raises(MigrationError, match=r"revision 0001 .*held its locks for longer"):
        await migrate(postgres_url, "shop", folder(tmp_path, slow), limits=limits)
    assert "made" not in await names(other)
    patient = folder(tmp_path, slow + "\nstatement_timeout_s = 30\n")
    assert await migrate(postgres_url, "shop", patient, limits=limits) == ["0001"]


async def test_an_index_is_made_concurrently_and_waits_for_old_transactions(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, INDEX)
    limits = MigrationLimits(lock_timeout_s=0.1)
    writer = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("INSERT INTO shop.things (tenant, id) VALUES ('a', gen_random_uuid())")
        migrating = asyncio.create_task(migrate(postgres_url, "shop", steps, limits=limits))
        await waiting(writer, "CREATE INDEX CONCURRENTLY")
        for _ in range(20):
            await writer.execute(
                "INSERT INTO shop.things (tenant, id) VALUES ('a', gen_random_uuid())"
            )
        assert not migrating.done()
    assert await migrating == ["0002"]
    assert await writer.fetchval(VALID) is True
    await writer.close()


async def test_an_index_that_was_left_half_made_is_dropped_and_made_again(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, INDEX)
    third = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("INSERT INTO shop.things (tenant, id) VALUES ('a', gen_random_uuid())")
        migrating = asyncio.create_task(migrate(postgres_url, "shop", steps))
        await waiting(third, "CREATE INDEX CONCURRENTLY")
        migrating.cancel()  # as a process that is killed in the middle
        with pytest.raises((asyncio.CancelledError, MigrationError)):
            await migrating
    while await third.fetchval("SELECT count(*) FROM pg_stat_progress_create_index"):
        await asyncio.sleep(0.01)
    assert await third.fetchval(VALID) is False
    assert await migrate(postgres_url, "shop", steps) == ["0002"]
    assert await third.fetchval(VALID) is True
    await third.close()
