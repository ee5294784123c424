"""A backfill on SQLite: a batch is a transaction; the file is this process's alone meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from tenfold.tables.backfilling import Backfill, BackfillProgress, BackfillTexts

__all__ = ["backfill_rows", "read_backfills"]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS tenfold_backfills (
    revision TEXT PRIMARY KEY,
    last TEXT NOT NULL DEFAULT '',
    seen INTEGER NOT NULL DEFAULT 0,
    changed INTEGER NOT NULL DEFAULT 0,
    total INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0
)
"""
_THERE: Final = "SELECT 1 FROM sqlite_master WHERE name = 'tenfold_backfills'"
_ALL: Final = "SELECT revision, seen, changed, total, ended FROM tenfold_backfills ORDER BY rowid"
_BEGIN: Final = "INSERT OR IGNORE INTO tenfold_backfills (revision, total) VALUES (?, ?)"
_STATE: Final = "SELECT last, seen, changed, total, ended FROM tenfold_backfills WHERE revision = ?"
_STEP: Final = """
UPDATE tenfold_backfills SET last = ?, seen = ?, changed = ?, ended = ? WHERE revision = ?
"""


def read_backfills(file: Path) -> list[BackfillProgress]:
    """How far each backfill of a file came, in the order in which they began."""
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        if connection.execute(_THERE).fetchone() is None:
            return []
        rows = connection.execute(_ALL).fetchall()
    names = ("revision", "seen", "changed", "total", "ended")
    return [
        msgspec.convert(dict(zip(names, row, strict=True)), BackfillProgress, strict=False)
        for row in rows
    ]


def backfill_rows(
    connection: sqlite3.Connection,
    revision: str,
    backfill: Backfill,
    on_batch: Callable[[BackfillProgress], None],
) -> None:
    """Change the rows that are left, batch by batch, without the pauses: nobody else is there.

    Args:
        connection: in autocommit mode.
    """
    texts = BackfillTexts(backfill, "sqlite")
    connection.execute(_TABLE)
    connection.execute(_BEGIN, (revision, connection.execute(texts.count()).fetchone()[0]))
    ended = False
    while not ended:
        connection.execute("BEGIN IMMEDIATE")
        try:
            progress = _batch(connection, revision, texts, backfill.batch)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        on_batch(progress)
        ended = progress.ended


def _batch(
    connection: sqlite3.Connection, revision: str, texts: BackfillTexts, size: int
) -> BackfillProgress:
    last, seen, changed, total, ended = connection.execute(_STATE, (revision,)).fetchone()
    if not ended:
        found = connection.execute(texts.end_after(last)).fetchone()
        end = "" if found is None else ", ".join(found)
        changed += connection.execute(texts.change(last, end)).rowcount
        ended = found is None
        seen = max(seen, total) if ended else seen + size
        connection.execute(_STEP, (end, seen, changed, int(ended), revision))
    return BackfillProgress(
        revision=revision, seen=seen, changed=changed, total=total, ended=bool(ended)
    )
