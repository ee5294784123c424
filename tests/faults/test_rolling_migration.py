"""A rolling restart with migrations before and after it, under load: no request fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.faults.callers import Callers
from tests.faults.two_versions import SupervisedShop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def sheds() -> bool:
    return False


@pytest.fixture
def shop(tmp_path: Path, postgres_url: str, sheds: bool) -> Iterator[SupervisedShop]:
    with SupervisedShop(tmp_path, postgres_url, sheds=sheds) as running:
        running.await_ready()
        yield running


def ask(url: str, text: str) -> Any:
    async def go() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(text)
        finally:
            await connection.close()

    return asyncio.run(go())


@pytest.mark.parametrize("sheds", [False, True], ids=["as much as can be", "with room to spare"])
def test_a_deploy_that_adds_a_column_and_drops_one_fails_no_request(
    shop: SupervisedShop,
    postgres_url: str,
    size: str,
    seed: int,
    sheds: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = (24 if sheds else 100) if size == "full" else (8 if sheds else 24)
    callers = Callers(shop.port, raw=raw, hurry=not sheds, seed=seed)
    callers.start()
    try:
        callers.await_answers(1_000 if size == "full" else 200)
        shop.deploy("2")
        done = shop.command("restart")
        assert done.returncode == 0, done.stderr + shop.said()
        callers.await_answers(1_000 if size == "full" else 200)
    finally:
        callers.stop()
    with capsys.disabled():
        told = f"{sum(callers.answers.values())} requests, {len(callers.failures)} failed"
        print(f"\n  a deploy with migrations, shedding {'on' if sheds else 'off'}: {told}")
    assert callers.failures == [], f"--seed {seed}\n{shop.said()}"
    assert set(callers.answers) == {"1", "2"}
    assert "1 migration: items 0002" in shop.said()
    assert "3 migrations: items 0003" in shop.said()
    assert shop.command("migrate", "verify").returncode == 0
    assert "0005  up to date" in shop.command("migrate", "status").stdout
    assert ask(postgres_url, "SELECT count(*) FROM items.items WHERE size IS NULL") == 0
    assert ask(postgres_url, "SELECT count(*) FROM items.items WHERE name = 'seeded'") == 1
    assert shop.stop() == 0, shop.said()
    assert "Traceback" not in shop.said()


def test_a_migration_that_would_break_what_runs_stops_the_deploy(
    shop: SupervisedShop, postgres_url: str
) -> None:
    shop.deploy("2")
    drop = shop.folder / "kit" / "migrations" / "0004.py"
    drop.write_text(drop.read_text().replace('phase = "after"', 'phase = "before"'))
    last = shop.folder / "kit" / "migrations" / "0003.py"
    last.write_text(last.read_text().replace("backfill = ", 'phase = "before"\nbackfill = '))
    done = shop.command("restart")
    assert done.returncode == 1
    assert "drop-before" in done.stderr
    assert shop.get("/") == "1"
    assert ask(postgres_url, "SELECT version_num FROM items.alembic_version") == "0001"
    assert shop.stop() == 0
