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

from tenfold.adapters.sqlite.backfill import backfill_rows
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.errors import MigrationError
from tenfold.tables.revisions import (
    backfill_of,
    fingerprint_of,
    mistakes,
    next_steps,
    read_script,
    told,
)

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection, Engine

__all__ = ["migrate", "pending", "read_heads"]

_KEY: Final = "migrations"
_META: Final = (
    "CREATE TABLE IF NOT EXISTS tenfold_meta "
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
)
_BUSY_S: Final = 30.0


def migrate(
    file: Path,
    module: str,
    migrations: Path,
    on_step: Callable[[str], None] = lambda _: None,
    on_batch: Callable[[BackfillProgress], None] = lambda _: None,
) -> list[str]:
    """Bring a module's file to the newest revision of its folder.

    Args:
        file: made where it does not exist.
        migrations: the folder; one that is missing or empty has nothing to do.
        on_step: told each revision, as `0002 add a column`, before it is applied.
        on_batch: told how far a backfill is, after each batch.
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
        while steps := _steps(file, module, script):
            on_step(told(steps[0].revision))
            _fill(file, module, steps[0], on_batch)
            _apply(engine, script, module, steps[0])
            applied.append(told(steps[0].revision))
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
    return [told(step.revision) for step in _steps(file, module, script)]


def read_heads(file: Path) -> tuple[str, ...]:
    """The revision that a module's file is at; empty before the first."""
    if not file.exists():
        return ()
    rows = _query(file, "alembic_version", "SELECT version_num FROM alembic_version", ())
    return tuple(str(row[0]) for row in rows)


def _steps(file: Path, module: str, script: ScriptDirectory) -> list[Any]:
    with mistakes(module, str(script.dir)):
        return next_steps(script, read_heads(file))


def _recorded(file: Path) -> str | None:
    if not file.exists():
        return None
    rows = _query(file, "tenfold_meta", "SELECT value FROM tenfold_meta WHERE key = ?", (_KEY,))
    return str(rows[0][0]) if rows else None


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


def _fill(file: Path, module: str, step: Any, on_batch: Callable[[BackfillProgress], None]) -> None:
    """Run a revision's backfill, if it has one, to its end."""
    with mistakes(module, str(file), [step]):
        backfill = backfill_of(step.revision)
        if backfill is not None:
            with closing(
                sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA synchronous=FULL")
                backfill_rows(connection, str(step.revision.revision), backfill, on_batch)


def _apply(engine: Engine, script: ScriptDirectory, module: str, step: Any) -> None:
    """Apply one revision in one transaction."""
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from tenfold.tables.columns import metadata

    with mistakes(module, str(script.dir), [step]), engine.begin() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "fn": lambda heads, context: [step],
                "script": script,
                "target_metadata": metadata(),
            },
        )
        with Operations.context(context):
            context.run_migrations()
        _check_references(connection)


def _check_references(connection: Connection) -> None:
    # References are not enforced while a table is being made anew, so they are checked here.
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        shown = ", ".join(f"{row[0]} (row {row[1]}) to {row[2]}" for row in broken[:5])
        raise ValueError(f"it leaves {len(broken)} rows that refer to nothing: {shown}")
