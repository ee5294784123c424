"""Migrations of one module's schema: once, in order, each by itself, with others at work."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import MetaData
from sqlalchemy.schema import CreateIndex, CreateTable

import store
from tenfold.adapters.postgres.dialect import TableDialect
from tenfold.adapters.postgres.migrate import MigrationLimits, migrate, pending
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.tables.errors import MigrationError
from tenfold.tables.search import create_search_sql, search_indexes

pytestmark = pytest.mark.anyio

FIRST = '''
"""make things"""
import sqlalchemy as sa
from alembic import op
from tenfold.tables.columns import Uuid
revision = "0001"
down_revision = None
def upgrade():
    op.create_table(
        "things",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("id", Uuid(), primary_key=True),
        sa.Column("name", sa.Text),
        sa.CheckConstraint("name <> ''", name="has_name"),
    )
'''
SECOND = '''
"""give things a size"""
import sqlalchemy as sa
from alembic import op
revision = "0002"
down_revision = "0001"
def upgrade():
    op.add_column("things", sa.Column("size", sa.Integer))
    op.create_index("things_size", "things", ["tenant", "size"])
'''
NAMES = "SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace('shop')"
COLUMNS = """
SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull, attcollation
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
    AND relname <> 'alembic_version' AND relname NOT LIKE 'tenfold%' ORDER BY 1, attnum
"""
# The store's revision gives its checks names that begin with the table's, which is put before them
# again: what they check is the same.
CONSTRAINTS = """
SELECT conrelid::regclass::text, replace(conname, 'stock_stock', 'stock'), pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = $1::regnamespace AND conrelid::regclass::text !~ 'alembic|tenfold'
ORDER BY 1, 2
"""
INDEXES = """
SELECT indexname, indexdef FROM pg_indexes
WHERE schemaname = $1 AND tablename !~ 'alembic|tenfold' ORDER BY 1
"""


def folder(path: Path, *bodies: str) -> Path:
    migrations = path / "migrations"
    migrations.mkdir(exist_ok=True)
    for number, body in enumerate(bodies, 1):
        (migrations / f"{number:04}_step.py").write_text(body)
    return migrations


def revision(number: int, body: str, **words: str) -> str:
    down = f'"{number - 1:04}"' if number > 1 else "None"
    said = "".join(f"{name} = {word!r}\n" for name, word in words.items())
    return (
        f"from alembic import op\nrevision = '{number:04}'\ndown_revision = {down}\n{said}"
        f"def upgrade():\n    {body}\n"
    )


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Another client of the database."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def names(other: asyncpg.Connection[Any]) -> set[str]:
    return {row[0] for row in await other.fetch(NAMES)}


async def test_a_new_schema_gets_every_revision_in_order(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = folder(tmp_path, FIRST, SECOND)
    expected = ["0001 make things", "0002 give things a size"]
    assert await pending(postgres_url, "shop", steps) == expected
    assert await names(other) == set()
    heard: list[str] = []
    assert await migrate(postgres_url, "shop", steps, heard.append) == expected == heard
    assert {"things", "things_size", "things_key", "alembic_version"} <= await names(other)
    assert await migrate(postgres_url, "shop", steps) == []
    assert await pending(postgres_url, "shop", steps) == []
    assert await other.fetchval("SELECT current_setting('search_path')") == '"$user", public'


async def test_a_further_revision_is_applied_alone(postgres_url: str, tmp_path: Path) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, SECOND)
    assert await migrate(postgres_url, "shop", steps) == ["0002 give things a size"]


async def test_no_folder_and_an_empty_one_have_nothing_to_do(
    postgres_url: str, tmp_path: Path
) -> None:
    assert await migrate(postgres_url, "shop", tmp_path / "none") == []
    assert await pending(postgres_url, "shop", folder(tmp_path)) == []


async def test_a_start_with_nothing_to_do_imports_no_alembic(
    postgres_url: str, tmp_path: Path
) -> None:
    steps = folder(tmp_path, FIRST)
    await migrate(postgres_url, "shop", steps)
    code = (
        "import asyncio, sys; from pathlib import Path\n"
        "from tenfold.adapters.postgres.migrate import migrate\n"
        f"assert asyncio.run(migrate({postgres_url!r}, 'shop', Path({str(steps)!r}))) == []\n"
        "assert not {'alembic', 'greenlet'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_failing_revision_leaves_nothing_and_is_named(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    bad = revision(2, 'op.execute("CREATE TABLE half (id int)"); op.execute("SELECT nothing")')
    with pytest.raises(MigrationError, match=r"revision 0002 .*nothing.* left nothing behind"):
        await migrate(postgres_url, "shop", folder(tmp_path, FIRST, bad))
    assert "half" not in await names(other)
    steps = folder(tmp_path, FIRST, SECOND)
    assert await migrate(postgres_url, "shop", steps) == ["0002 give things a size"]


async def test_a_schema_that_is_ahead_of_its_folder_is_refused(
    postgres_url: str, tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST, SECOND))
    (tmp_path / "migrations" / "0002_step.py").unlink()
    for act in (migrate, pending):
        with pytest.raises(MigrationError, match="newer than this folder"):
            await act(postgres_url, "shop", tmp_path / "migrations")


async def test_no_server_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="migration of module 'shop'"):
        await migrate("postgresql://nobody@127.0.0.1:1/none", "shop", folder(tmp_path, FIRST))


async def test_a_connection_that_is_lost_on_the_way_is_told(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any, **__: Any) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2)")

    monkeypatch.setattr(asyncpg.Connection, "fetchval", lost)
    with pytest.raises(StoreUnavailableError, match=r"migration of module 'shop'.*cannot switch"):
        await migrate(postgres_url, "shop", folder(tmp_path, FIRST))


async def test_of_many_that_start_at_once_one_applies_and_the_others_wait(
    postgres_url: str, tmp_path: Path
) -> None:
    steps = folder(tmp_path, FIRST, SECOND)
    applied = await asyncio.gather(*(migrate(postgres_url, "shop", steps) for _ in range(6)))
    expected = ["0001 make things", "0002 give things a size"]
    assert sorted(applied) == [[]] * 5 + [expected]


async def test_a_revision_that_cannot_get_its_table_gives_way_and_is_tried_again(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, SECOND)
    limits = MigrationLimits(lock_timeout_s=0.05)
    heard: list[str] = []
    async with other.transaction():
        await other.execute("LOCK shop.things IN ACCESS SHARE MODE")
        migrating = asyncio.create_task(
            migrate(postgres_url, "shop", steps, heard.append, limits=limits)
        )
        third = await asyncpg.connect(postgres_url)
        # It asked for the table, was refused, and left the line free.
        refusals = "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        before = await third.fetchval(refusals)
        while await third.fetchval(refusals) - before < 2:
            await asyncio.sleep(0.05)
            await third.execute("SELECT pg_stat_clear_snapshot()")
        assert not migrating.done()
        await third.fetch("SELECT * FROM shop.things")
        await third.close()
    assert await migrating == ["0002 give things a size"] == heard


async def test_a_table_that_is_held_for_ever_is_told(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, SECOND)
    limits = MigrationLimits(lock_timeout_s=0.02, retry_s=0.1)
    async with other.transaction():
        await other.execute("LOCK shop.things IN ACCESS SHARE MODE")
        with pytest.raises(MigrationError, match="Another transaction held a table"):
            await migrate(postgres_url, "shop", steps, limits=limits)


@pytest.mark.parametrize("where", ["before", "after"])
async def test_killed_inside_a_revision_it_goes_on_when_started_again(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path, where: str
) -> None:
    make = 'op.execute("CREATE TABLE late (id int)")'
    die = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    body = f"{die}; {make}" if where == "before" else f"{make}; {die}"
    steps = folder(tmp_path, FIRST, revision(2, body))
    code = (
        "import asyncio; from pathlib import Path\n"
        "from tenfold.adapters.postgres.migrate import migrate\n"
        f"asyncio.run(migrate({postgres_url!r}, 'shop', Path({str(steps)!r})))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert "things" in await names(other)
    assert "late" not in await names(other)
    steps = folder(tmp_path, FIRST, revision(2, make))
    assert await migrate(postgres_url, "shop", steps) == ["0002"]
    assert os.getpid()


async def test_only_the_revisions_of_the_phases_asked_for_are_applied(
    postgres_url: str, tmp_path: Path
) -> None:
    before, after = ("before",), ("after",)
    steps = folder(tmp_path, FIRST)
    assert await migrate(postgres_url, "shop", steps, phases=before) == ["0001 make things"]
    folder(
        tmp_path,
        FIRST,
        revision(2, 'op.execute("ALTER TABLE things ADD COLUMN kind text")', phase="before"),
        revision(3, 'op.execute("ALTER TABLE things DROP COLUMN name")', phase="after"),
    )
    assert await pending(postgres_url, "shop", steps, phases=before) == ["0002"]
    assert await migrate(postgres_url, "shop", steps, phases=before) == ["0002"]
    assert await migrate(postgres_url, "shop", steps, phases=before) == []
    assert await pending(postgres_url, "shop", steps, phases=before) == []
    assert await pending(postgres_url, "shop", steps) == ["0003"]
    assert await migrate(postgres_url, "shop", steps, phases=after) == ["0003"]
    assert await pending(postgres_url, "shop", steps) == []


LATER = (
    revision(2, 'op.execute("ALTER TABLE things DROP COLUMN name")', phase="after"),
    revision(3, 'op.execute("ALTER TABLE things ADD COLUMN kind text")'),
)


async def test_a_schema_that_no_code_has_run_on_gets_both_phases_even_when_killed_on_the_way(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    steps = folder(tmp_path, FIRST, LATER[0], revision(3, "raise ValueError"))
    with pytest.raises(MigrationError, match="ValueError"):
        await migrate(postgres_url, "shop", steps, phases=("before",))
    folder(tmp_path, FIRST, *LATER)
    assert await migrate(postgres_url, "shop", steps, phases=("before",)) == ["0003"]
    assert await pending(postgres_url, "shop", steps) == []


async def test_what_new_code_needs_behind_what_old_code_cannot_bear_is_refused(
    postgres_url: str, tmp_path: Path
) -> None:
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST))
    steps = folder(tmp_path, FIRST, *LATER)
    with pytest.raises(MigrationError, match=r"0003 .* stands behind 0002"):
        await migrate(postgres_url, "shop", steps, phases=("before",))
    assert await migrate(postgres_url, "shop", steps) == ["0002", "0003"]


async def test_an_unknown_phase_is_refused(postgres_url: str, tmp_path: Path) -> None:
    steps = folder(tmp_path, revision(1, "pass", phase="later"))
    with pytest.raises(MigrationError, match="phase = 'later'"):
        await migrate(postgres_url, "shop", steps)


async def test_an_index_may_be_made_concurrently(
    postgres_url: str, other: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    make = (
        "with op.get_context().autocommit_block():\n        op.create_index("
        "'things_name', 'things', ['tenant', 'name'], postgresql_concurrently=True)"
    )
    await migrate(postgres_url, "shop", folder(tmp_path, FIRST, revision(2, make)))
    assert "things_name" in await names(other)


@pytest.mark.parametrize("module", ["catalog", "inventory", "orders", "payments", "notifications"])
async def test_the_stores_revisions_make_what_its_tables_declare(
    postgres_url: str, other: asyncpg.Connection[Any], module: str
) -> None:
    path = Path(store.__path__[0]) / module / "migrations"
    assert await migrate(postgres_url, module, path)

    async def seen() -> list[Any]:
        await other.execute(f"SET search_path = {module}")
        return [await other.fetch(text, module) for text in (COLUMNS, CONSTRAINTS, INDEXES)]

    made = await seen()
    await other.execute(f"DROP SCHEMA {module} CASCADE; CREATE SCHEMA {module}")
    dialect = TableDialect()
    tables = import_module(f"store.{module}.tables").METADATA.sorted_tables
    for table in tables:
        placed = table.to_metadata(MetaData(), schema=module)
        for statement in (CreateTable(placed), *map(CreateIndex, placed.indexes)):
            await other.execute(str(statement.compile(dialect=dialect)))
        for search in search_indexes(table):
            for text in create_search_sql(
                search.name, table.name, search.key, search.columns, "postgresql", module
            ):
                await other.execute(text)
    assert made == await seen()
