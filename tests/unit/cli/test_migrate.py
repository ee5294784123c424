"""`tenfold migrate`: with files that one process has, and with a server that others use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.faults.two_versions import write_version

PAGES = (
    '"""Pages."""\nfrom alembic import op\n'
    'revision = "0001"\ndown_revision = None\n'
    'def upgrade():\n    op.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY)")\n'
)


@pytest.fixture
def pages(pad: Any) -> Any:
    folder = pad.root / "padkit" / "migrations"
    folder.mkdir()
    (folder / "0001_pages.py").write_text(PAGES)
    return pad


class Shop:
    """The product of two versions, and `tenfold migrate` on it."""

    def __init__(self, pad: Any, url: str) -> None:
        self._pad = pad
        self._url = url
        self.folder: Path = pad.root / "shop"
        self.write(1)

    def write(self, version: int) -> None:
        write_version(self.folder, version, self._url)

    def __call__(self, *words: str) -> Any:
        where = ("--product", str(self.folder), "--topology", "growth")
        return self._pad("migrate", *words, *where, PYTHONDONTWRITEBYTECODE="1")


@pytest.fixture
def shop(pad: Any, postgres_url: str) -> Shop:
    return Shop(pad, postgres_url)


def test_a_files_status_plan_and_verification(pages: Any) -> None:
    assert "pending (before): 0001 Pages." in pages("migrate", "status").stdout
    plan = pages("migrate", "plan").stdout
    assert plan.startswith("-- notes 0001 Pages. (before)\nCREATE TABLE pages")
    assert not pages.data.exists()
    done = pages("migrate", "up")
    assert done.stdout == "notes 0001 Pages.\n1 applied.\n"
    (status,) = pages.json("migrate", "status")
    assert (status["module"], status["at"], status["pending"]) == ("notes", "0001", [])
    assert pages("migrate", "plan").stdout == pages("migrate", "up").stdout == "Nothing to do.\n"
    done = pages("migrate", "verify")
    assert done.returncode == 1  # the module declares no such table
    assert "+ table pages exists" in done.stdout


def test_a_files_phases_are_not_parted(pages: Any) -> None:
    done = pages("migrate", "up", "--phase", "after")
    assert done.returncode == 2
    assert "keeps its data in SQLite" in done.stderr
    assert pages("migrate", "up", "--phase", "all").returncode == 0


def test_an_option_before_the_word_is_not_lost(pages: Any) -> None:
    done = pages("migrate", "--dry-run", "up")
    assert done.returncode == 2
    assert "An option stands before `up`" in done.stderr


@pytest.mark.campaign
def test_a_server_gets_what_new_code_needs_and_the_rest_when_it_is_said(shop: Shop) -> None:
    assert shop("up").stdout == "items 0001 Items.\n1 applied.\n"
    shop.write(2)
    plan = json.loads(shop("plan", "--phase", "all", "--json").stdout)
    assert [step["revision"] for step in plan["steps"]] == ["0002", "0003", "0004", "0005"]
    done = shop("up")
    assert "1 applied." in done.stdout
    assert "items: pending (after): 0004 No legacy." in done.stdout
    done = shop("verify")
    assert done.returncode == 1
    assert "+ column items.legacy" in done.stdout
    assert "items: pending: 0003" in done.stdout
    assert "(after, backfill): 0003 Sizes of old items." in shop("status").stdout
    done = shop("up", "--phase", "after")
    assert "items 0003: done, 0 rows changed" in done.stdout
    assert "3 applied." in done.stdout
    done = shop("verify")
    assert (done.returncode, done.stdout) == (0, "The databases have what the modules declare.\n")
    assert "ahead" not in shop("status").stdout


def test_lint_and_plan_find_what_would_break_running_code(shop: Shop) -> None:
    shop.write(2)
    assert shop("lint").stdout == "Nothing found.\n"
    file = shop.folder / "kit" / "migrations" / "0004.py"
    file.write_text(file.read_text().replace('phase = "after"', ""))
    done = shop("lint")
    assert done.returncode == 1
    assert f"{file}:8: error: drop-before: Code that still runs uses items.legacy." in done.stdout
    assert shop("plan").returncode == 0  # nobody uses a new schema
    allowance = "# tenfold: lint-ignore drop-before because I say so\n"
    file.write_text(file.read_text() + allowance)
    assert shop("lint").returncode == 0
