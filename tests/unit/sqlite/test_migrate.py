"""Migrations of one module's file: once, in order, each by itself, again after a kill."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tenfold.adapters.sqlite.migrate import migrate, pending
from tenfold.tables.errors import MigrationError

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


def folder(path: Path, *bodies: str) -> Path:
    migrations = path / "migrations"
    migrations.mkdir(exist_ok=True)
    for number, body in enumerate(bodies, 1):
        (migrations / f"{number:04}_step.py").write_text(body)
    return migrations


def names(file: Path) -> set[str]:
    with closing(sqlite3.connect(file)) as connection:
        return {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}


def test_a_new_file_gets_every_revision_in_order(tmp_path: Path) -> None:
    told: list[str] = []
    migrations = folder(tmp_path, FIRST, SECOND)
    both = ["0001 make things", "0002 give things a size"]
    assert pending(tmp_path / "a.db", "shop", migrations) == both
    assert migrate(tmp_path / "a.db", "shop", migrations, told.append) == both
    assert told == both
    assert {"things", "things_size", "alembic_version"} <= names(tmp_path / "a.db")
    assert pending(tmp_path / "a.db", "shop", migrations) == []


def test_constraints_get_the_names_that_tables_give_them(tmp_path: Path) -> None:
    migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST))
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        (sql,) = connection.execute("SELECT sql FROM sqlite_master WHERE name='things'").fetchone()
    assert "things_has_name" in sql


def test_a_further_revision_is_applied_alone(tmp_path: Path) -> None:
    migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST))
    migrations = folder(tmp_path, FIRST, SECOND)
    assert pending(tmp_path / "a.db", "shop", migrations) == ["0002 give things a size"]
    assert migrate(tmp_path / "a.db", "shop", migrations) == ["0002 give things a size"]


def test_a_start_with_nothing_to_do_imports_no_alembic(tmp_path: Path) -> None:
    migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST))
    script = (
        "import sys; from pathlib import Path; from tenfold.adapters.sqlite.migrate import migrate;"
        f"assert migrate(Path({str(tmp_path / 'a.db')!r}), 'shop', "
        f"Path({str(tmp_path / 'migrations')!r})) == [];"
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_no_folder_and_an_empty_one_have_nothing_to_do(tmp_path: Path) -> None:
    assert migrate(tmp_path / "a.db", "shop", tmp_path / "none") == []
    assert migrate(tmp_path / "a.db", "shop", folder(tmp_path)) == []
    assert not (tmp_path / "a.db").exists()


def test_a_failing_revision_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    broken = SECOND + '    op.execute("INSERT INTO nowhere VALUES (1)")\n'
    migrations = folder(tmp_path, FIRST, broken)
    with pytest.raises(MigrationError) as caught:
        migrate(tmp_path / "a.db", "shop", migrations)
    message = str(caught.value)
    assert "0002" in message
    assert "0002_step.py" in message
    assert "nowhere" in message
    assert "things" in names(tmp_path / "a.db")
    assert "things_size" not in names(tmp_path / "a.db")
    assert migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST, SECOND)) == [
        "0002 give things a size"
    ]


def test_two_ends_are_refused_with_both_named(tmp_path: Path) -> None:
    other = SECOND.replace('revision = "0002"', 'revision = "0003"', 1)
    with pytest.raises(MigrationError, match="0002, 0003"):
        migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST, SECOND, other))


def test_a_file_that_is_ahead_of_its_folder_is_refused(tmp_path: Path) -> None:
    migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST, SECOND))
    (tmp_path / "migrations" / "0002_step.py").unlink()
    with pytest.raises(MigrationError, match="newer than this folder"):
        migrate(tmp_path / "a.db", "shop", tmp_path / "migrations")


def test_a_revision_that_cannot_be_read_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match=r"invalid syntax|never closed|SyntaxError"):
        migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST + "\ndef broken(:\n"))


def test_rows_that_refer_to_nothing_stop_a_revision(tmp_path: Path) -> None:
    bad = """
from alembic import op
revision = "0001"
down_revision = None
def upgrade():
    op.execute("CREATE TABLE parents (id INTEGER PRIMARY KEY)")
    op.execute("CREATE TABLE children (id INTEGER PRIMARY KEY, parent REFERENCES parents (id))")
    op.execute("INSERT INTO children VALUES (1, 7)")
"""
    with pytest.raises(MigrationError, match="refer to nothing"):
        migrate(tmp_path / "a.db", "shop", folder(tmp_path, bad))
    assert "children" not in names(tmp_path / "a.db")


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database " * 100)
    for act in (migrate, pending):
        with pytest.raises(MigrationError, match="cannot be read as a database"):
            act(tmp_path / "a.db", "shop", folder(tmp_path, FIRST))
    assert (tmp_path / "a.db").read_bytes() == b"not a database " * 100


def test_a_search_index_is_made_and_dropped_by_revisions(tmp_path: Path) -> None:
    third = """
from alembic import op
from tenfold.tables.migration import create_search_index
revision = "0003"
down_revision = "0002"
def upgrade():
    op.execute("INSERT INTO things VALUES ('main', x'01', 'Blue Chair', 1)")
    create_search_index("things_search", table="things", key=["tenant", "id"], columns=["name"])
"""
    fourth = """
from tenfold.tables.migration import drop_search_index
revision = "0004"
down_revision = "0003"
def upgrade():
    drop_search_index("things_search", columns=["name"])
"""
    migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST, SECOND, third))
    with closing(sqlite3.connect(tmp_path / "a.db")) as connection:
        found = connection.execute(
            "SELECT rowid FROM things_search WHERE things_search MATCH 'cha*'"
        )
        assert found.fetchall() == [(1,)]
    assert migrate(tmp_path / "a.db", "shop", folder(tmp_path, FIRST, SECOND, third, fourth)) == [
        "0004"
    ]
    assert not {name for name in names(tmp_path / "a.db") if name.startswith("things_search")}


@pytest.mark.parametrize("where", ["before", "after"])
def test_killed_inside_a_revision_it_goes_on_when_started_again(tmp_path: Path, where: str) -> None:
    die = "    import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    body = (
        SECOND.replace("def upgrade():\n", "def upgrade():\n" + die)
        if where == "before"
        else (SECOND + die)
    )
    migrations = folder(tmp_path, FIRST, body)
    script = (
        "from pathlib import Path; from tenfold.adapters.sqlite.migrate import migrate;"
        f"migrate(Path({str(tmp_path / 'a.db')!r}), 'shop', Path({str(migrations)!r}))"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert "things" in names(tmp_path / "a.db")
    assert "things_size" not in names(tmp_path / "a.db")
    folder(tmp_path, FIRST, SECOND)
    assert migrate(tmp_path / "a.db", "shop", migrations) == ["0002 give things a size"]
    assert "things_size" in names(tmp_path / "a.db")
    assert os.path.exists(tmp_path / "a.db")
