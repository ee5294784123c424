"""A module's migrations, applied to its file before the writer opens it.

Each revision commits by itself together with its mark in `alembic_version`, so
a start that was killed on the way goes on where it was. A file has one process,
so both phases of a roll-out are applied at once.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tenfold.tables.errors import MigrationError
from tenfold.tables.revisions import fingerprint_of, mistakes, next_steps, read_script, told

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection, Engine

__all__ = ["migrate", "pending"]

_KEY: Final = "migrations"
_META: Final = (
    "CREATE TABLE IF NOT EXISTS tenfold_meta "
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
)
_BUSY_S: Final = 30.0


def migrate(
    file: Path, module: str, migrations: Path, on_step: Callable[[str], None] = lambda _: None
) -> list[str]:
    """Bring a module's file to the newest revision of its folder.

    Args:
        file: made where it does not exist.
        migrations: the folder; one that is missing or empty has nothing to do.
        on_step: told each revision, as `0002 add a column`, before it is applied.
    Returns: the revisions applied, in order and as `on_step` was told them; empty where
        there was nothing to do.
    Raises: MigrationError (NOT_DONE): the revisions before the one it names are
        applied and stay, that one has left nothing.
    """
    fingerprint = fingerprint_of(migrations)
    if fingerprint is None or fingerprint == _recorded(file):
        return []
    script = read_script(module, migrations)
    engine = _engine(file)
    applied: list[str] = []
    try:
        while (step := _next_step(engine, script, module, on_step)) is not None:
            applied.append(step)
    finally:
        engine.dispose()
    with closing(sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)) as connection:
        connection.execute(_META)
        connection.execute(
            "INSERT INTO tenfold_meta VALUES (?, ?) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_KEY, fingerprint),
        )
    return applied


def pending(file: Path, module: str, migrations: Path) -> list[str]:
    """The revisions that `migrate` would apply, as it would tell them. Changes nothing.

    Raises: MigrationError (NOT_DONE) where the folder or the file's revision
        cannot be read.
    """
    fingerprint = fingerprint_of(migrations)
    if fingerprint is None or fingerprint == _recorded(file):
        return []
    script = read_script(module, migrations)
    with mistakes(module, str(migrations)):
        current: Any = _heads(file)
        return [told(step.revision) for step in next_steps(script, current)]


def _recorded(file: Path) -> str | None:
    if not file.exists():
        return None
    rows = _query(file, "tenfold_meta", "SELECT value FROM tenfold_meta WHERE key = ?", (_KEY,))
    return str(rows[0][0]) if rows else None


def _heads(file: Path) -> tuple[str, ...]:
    if not file.exists():
        return ()
    rows = _query(file, "alembic_version", "SELECT version_num FROM alembic_version", ())
    return tuple(str(row[0]) for row in rows)


def _query(file: Path, table: str, sql: str, values: tuple[str, ...]) -> list[Any]:
    try:
        with closing(sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)) as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,))
            return connection.execute(sql, values).fetchall() if known.fetchone() else []
    except sqlite3.DatabaseError as error:
        raise MigrationError(
            f"The file {file} cannot be read as a database: {error}. Nothing was changed. "
            "Put the right file there, or move it away to begin anew."
        ) from error


def _engine(file: Path) -> Engine:
    from sqlalchemy import create_engine, event, pool

    def connect() -> sqlite3.Connection:
        # Without isolation_level=None sqlite3 would commit by itself before a CREATE or ALTER.
        connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=pool.NullPool)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _next_step(
    engine: Engine, script: ScriptDirectory, module: str, on_step: Callable[[str], None]
) -> str | None:
    """Apply one revision in one transaction; None where the file is at the newest."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from tenfold.tables.columns import metadata

    taken: list[Any] = []

    def first(heads: Any, context: MigrationContext) -> list[Any]:
        taken.extend(next_steps(script, heads)[:1])
        for step in taken:
            on_step(told(step.revision))
        return taken

    place = str(script.dir)
    with mistakes(module, place, taken), engine.begin() as connection:
        context = MigrationContext.configure(
            connection, opts={"fn": first, "script": script, "target_metadata": metadata()}
        )
        with Operations.context(context):
            context.run_migrations()
        if taken:
            _check_references(connection)
    return told(taken[0].revision) if taken else None


def _check_references(connection: Connection) -> None:
    # References are not enforced while a table is being made anew, so they are checked here.
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        shown = ", ".join(f"{row[0]} (row {row[1]}) to {row[2]}" for row in broken[:5])
        raise ValueError(f"it leaves {len(broken)} rows that refer to nothing: {shown}")
