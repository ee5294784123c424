"""Migrations of a whole product: status, plan, phases with their seed, and whether tables fit."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.migrations import migrate_modules, plan_of, status_of
from tenfold.runtimes.preparing import Phase, prepare
from tenfold.runtimes.topology import Product, Topology, load_product
from tenfold.runtimes.verifying import verify_product
from tenfold.tables.errors import MigrationError, MigrationRefusedError
from tests.faults.two_versions import write_version

pytestmark = pytest.mark.anyio


class Versions:
    """A product's folders, in two versions; on SQLite where there is no `url`."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url

    def load(self, version: int, **revisions: tuple[str, str]) -> Product:
        """A version, with texts in its revisions replaced."""
        package = f"{self._folder.name.replace('-', '_')}_v{version}_{len(revisions)}"
        folder = self._folder / package
        folder.mkdir()
        write_version(folder, version, self._url, package=package)
        for name, (old, new) in revisions.items():
            file = folder / package / "migrations" / f"{name[1:]}.py"
            text = file.read_text()
            assert old in text
            file.write_text(text.replace(old, new))
        product = load_product(folder, "growth", environ={})
        if not self._url:
            return msgspec.structs.replace(
                product, topology=Topology(), data_dir=self._folder / "files"
            )
        return product


@pytest.fixture
def versions(tmp_path: Path, postgres_url: str) -> Versions:
    return Versions(tmp_path, postgres_url)


@pytest.fixture
def on_sqlite(tmp_path: Path) -> Versions:
    (tmp_path / "files").mkdir()
    return Versions(tmp_path, "")


@pytest.fixture
async def other(postgres_url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def test_status_and_plan_say_what_is_left_in_which_phase(versions: Versions) -> None:
    new = versions.load(2)
    await migrate_modules(versions.load(1))
    (status,) = await status_of(new)
    assert (status.module, status.at, status.ahead) == ("items", "0001", False)
    assert [(step.revision, step.phase, step.backfill) for step in status.pending] == [
        ("0002", "before", False),
        ("0003", "after", True),
        ("0004", "after", False),
        ("0005", "after", False),
    ]
    plan = await plan_of(new, ("before",))
    assert [statement.sql for statement in plan.steps[0].statements] == [
        "ALTER TABLE items ADD COLUMN size BIGINT",
        "ALTER TABLE items ALTER COLUMN legacy DROP NOT NULL",
    ]
    assert [step.revision for step in plan.waiting] == ["0003", "0004", "0005"]
    assert plan.findings == []
    assert await migrate_modules(new) == [
        ("items", "0002 A size; the legacy is no longer required."),
        ("items", "0003 Sizes of old items."),
        ("items", "0004 No legacy."),
        ("items", "0005 Found by name."),
    ]
    (status,) = await status_of(new)
    assert (status.at, status.pending, status.backfills) == ("0005", [], [])


async def test_what_would_break_running_code_is_refused_and_nothing_is_applied(
    versions: Versions, other: asyncpg.Connection[Any]
) -> None:
    await migrate_modules(versions.load(1))
    rename = ('op.add_column("items", sa.Column("size", sa.Integer))', 'op.drop_table("items")')
    worse = versions.load(2, r0002=rename)
    with pytest.raises(MigrationRefusedError, match=r"0002\.py:\d+: error: drop-before"):
        await migrate_modules(worse, ("before",))
    assert await other.fetchval("SELECT version_num FROM items.alembic_version") == "0001"


async def test_the_seed_runs_once_between_the_phases(
    versions: Versions, other: asyncpg.Connection[Any]
) -> None:
    old, new = versions.load(1), versions.load(2)
    for product in (old, new, new):
        await prepare(product, Phase.BEFORE)
        assert await other.fetchval("SELECT count(*) FROM items.items") == 1
        await prepare(product, Phase.AFTER)
    assert await prepare(new, Phase.BEFORE) == await prepare(new, Phase.AFTER) == ""


async def test_a_backfill_that_takes_long_is_left_for_later_and_said(
    versions: Versions, other: asyncpg.Connection[Any]
) -> None:
    old = versions.load(1)
    new = versions.load(2, r0003=("pause_s=0.01", "pause_s=0.3"))
    await prepare(old, Phase.BEFORE)
    await other.execute(
        "INSERT INTO items.items SELECT 'main', gen_random_uuid(), 'x', 'x' "
        "FROM generate_series(1, 1000)"
    )
    await prepare(new, Phase.BEFORE)
    processes = msgspec.structs.replace(new.topology.processes, start_timeout_s=1.0)
    hurried = msgspec.structs.replace(
        new, topology=msgspec.structs.replace(new.topology, processes=processes)
    )
    said = await prepare(hurried, Phase.AFTER)
    assert said.startswith("Not finished yet: the backfill items 0003:")
    assert "`tenfold migrate up --phase after`" in said
    (status,) = await status_of(new)
    assert status.at == "0002"
    assert 0 < status.backfills[0].seen < 1_000
    assert len(await migrate_modules(new, ("after",))) == 3


async def test_what_follows_the_last_old_process_is_left_to_people_where_there_are_machines(
    versions: Versions,
) -> None:
    """Another machine's processes run the old code still, and no supervisor sees them."""
    old, new = versions.load(1), versions.load(2)
    await prepare(old, Phase.BEFORE)
    machines = BalancerSettings(servers=("10.0.0.1:8000", "10.0.0.2:8000"))
    several = msgspec.structs.replace(
        new, topology=msgspec.structs.replace(new.topology, balancer=machines)
    )
    await prepare(several, Phase.BEFORE)
    said = await prepare(several, Phase.AFTER)
    assert said.startswith("Not applied yet, since other machines may run the code of before:")
    assert "items 0003" in said
    assert "`tenfold migrate up --phase after`" in said
    (status,) = await status_of(new)
    assert status.at == "0002"
    assert len(await migrate_modules(several, ("after",))) == 3
    assert await prepare(several, Phase.AFTER) == ""


async def test_code_of_before_passes_over_a_schema_that_is_ahead(
    versions: Versions, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = versions.load(1), versions.load(2)
    await prepare(old, Phase.BEFORE)
    await prepare(new, Phase.BEFORE)
    with caplog.at_level(logging.WARNING, "tenfold.migrations"):
        assert await prepare(old, Phase.BEFORE) == await prepare(old, Phase.AFTER) == ""
    assert "ahead of this code" in caplog.text
    (status,) = await status_of(old)
    assert (status.at, status.ahead) == ("0002", True)
    with pytest.raises(MigrationError, match="newer than this folder"):
        await migrate_modules(old)


async def test_differences_between_schema_and_tables_are_told(
    versions: Versions, other: asyncpg.Connection[Any]
) -> None:
    new = versions.load(2)
    await migrate_modules(new)
    assert await verify_product(new) == []
    await other.execute("ALTER TABLE items.items ALTER size TYPE int, ADD more text DEFAULT 'x'")
    await other.execute("ALTER TABLE items.items ALTER name DROP NOT NULL")
    await other.execute("DROP INDEX items.items_name_index; CREATE TABLE items.odd (id int)")
    assert [drift.said for drift in await verify_product(new)] == [
        "+ column items.more text DEFAULT 'x'::text",
        '- column items.name text COLLATE "C" NOT NULL\n+ column items.name text COLLATE "C"',
        "- column items.size bigint\n+ column items.size integer",
        (
            "- index items.items_name_index CREATE INDEX items_name_index ON items USING btree "
            "(tenant, name)"
        ),
        "+ table odd exists",
    ]
    assert await other.fetchval("SELECT to_regnamespace('tenfold_verify')") is None


async def test_a_file_is_migrated_and_verified_as_well(on_sqlite: Versions) -> None:
    import sqlite3
    from contextlib import closing

    old, new = on_sqlite.load(1), on_sqlite.load(2, r0002=(
        'op.alter_column("items", "legacy", nullable=True)',
        ('with op.batch_alter_table("items") as items:\n'
        '        items.alter_column("legacy", nullable=True)'),
    ))  # fmt: skip
    await migrate_modules(old)
    (status,) = await status_of(new)
    assert [step.revision for step in status.pending] == ["0002", "0003", "0004", "0005"]
    plan = await plan_of(new, ("before", "after"))
    assert plan.steps[0].failure  # it asks the database what the table is
    assert len(await migrate_modules(new)) == 4
    assert await verify_product(new) == []
    with closing(sqlite3.connect(new.data_dir / "items.db")) as connection:
        connection.execute("ALTER TABLE items ADD COLUMN more TEXT DEFAULT 'x'")
        connection.execute("DROP INDEX items_name_index")
    assert [drift.said for drift in await verify_product(new)] == [
        "+ column items.more TEXT DEFAULT 'x'",
        "- index items.items_name_index (tenant, name)",
    ]
    assert await prepare(new, Phase.BEFORE) == ""
