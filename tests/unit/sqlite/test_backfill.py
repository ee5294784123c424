"""Rows of a file are changed in batches, each once, and again after a kill."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.adapters.sqlite.backfill import read_backfills
from tenfold.adapters.sqlite.migrate import migrate
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.errors import MigrationError
from tests.unit.sqlite.test_migrate import folder

ROWS = 1_050
FIRST = '''
"""make things"""
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.execute(
        "CREATE TABLE things (tenant TEXT, id BLOB, n INT, fills INT DEFAULT 0, "
        "PRIMARY KEY (tenant, id))"
    )
'''
FILL = '''
"""fill things"""
from alembic import op
from tenfold.tables.backfilling import Backfill
revision = "0002"
down_revision = "0001"
backfill = Backfill(
    table="things", key=("tenant", "id"), values={"fills": "fills + 1", "n": "length(tenant)"},
    where="n IS NULL", batch=100,
)
def upgrade():
    op.execute("CREATE TABLE filled (id INT)")
'''
FILLED = "SELECT count(*) FROM things WHERE fills = 1 AND n = length(tenant)"


def filled(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        return int(connection.execute(FILLED).fetchone()[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    migrate(path, "shop", folder(tmp_path, FIRST))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(
            "INSERT INTO things (tenant, id) VALUES (?, randomblob(16))",
            [(("a", "o'hara", "ß", "")[n % 4],) for n in range(ROWS)],
        )
    return path


def test_every_row_is_filled_once_and_progress_is_told(file: Path, tmp_path: Path) -> None:
    heard: list[BackfillProgress] = []
    steps = folder(tmp_path, FIRST, FILL)
    assert migrate(file, "shop", steps, on_batch=heard.append) == ["0002 fill things"]
    assert filled(file) == ROWS
    assert [progress.ended for progress in heard] == [False] * 10 + [True]
    assert read_backfills(file) == [heard[-1]]
    assert heard[-1].changed == ROWS


def test_killed_in_the_middle_it_goes_on_where_it_was(file: Path, tmp_path: Path) -> None:
    steps = folder(tmp_path, FIRST, FILL)
    code = (
        "import os, signal; from pathlib import Path\n"
        "from tenfold.adapters.sqlite.migrate import migrate\n"
        "def heard(progress):\n"
        "    if progress.seen >= 300: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"migrate(Path({str(file)!r}), 'shop', Path({str(steps)!r}), on_batch=heard)"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert filled(file) == 300
    assert migrate(file, "shop", steps) == ["0002 fill things"]
    assert filled(file) == ROWS


def test_one_that_cannot_be_run_is_told_with_its_revision(file: Path, tmp_path: Path) -> None:
    steps = folder(tmp_path, FIRST, FILL.replace("length(tenant)", "no_such"))
    with pytest.raises(MigrationError, match=r"revision 0002 .*no such column: no_such"):
        migrate(file, "shop", steps)
    assert migrate(file, "shop", folder(tmp_path, FIRST, FILL)) == ["0002 fill things"]
