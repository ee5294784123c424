"""The rows of a module's file, as people read them, and what changed between two looks."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

__all__ = ["Change", "Tables", "changes", "read_tables"]

Tables = dict[str, dict[tuple[Any, ...], dict[str, Any]]]
"""Tables by name, their rows by primary key."""
_NOT_OF_A_UNIT = (
    "tenfold_meta",
    "tenfold_queue",
    "tenfold_claims",
    "tenfold_positions",
    "tenfold_generations",
    "tenfold_projections",
    "alembic_version",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Change:
    """A row that was added (`before` is None), removed (`after` is None) or changed."""

    table: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def read_tables(file: Path) -> Tables:
    """The rows that units of work write: the module's own, its outbox, inbox and replies."""
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        kinds = connection.execute("SELECT name, type FROM pragma_table_list").fetchall()
        names = sorted(
            name
            for name, kind in kinds
            if kind == "table" and name not in _NOT_OF_A_UNIT and not name.startswith("sqlite_")
        )
        return {name: _rows(connection, name) for name in names}
    finally:
        connection.close()


def changes(before: Tables, after: Tables) -> list[Change]:
    """What became of each table's rows, the module's own tables first."""
    found: list[Change] = []
    for name in sorted(after, key=lambda name: (name.startswith("tenfold_"), name)):
        was, now = before.get(name, {}), after[name]
        found += [Change(name, row, None) for key, row in was.items() if key not in now]
        found += [
            Change(name, was.get(key), row) for key, row in now.items() if was.get(key) != row
        ]
    return found


def _rows(connection: sqlite3.Connection, table: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    columns = connection.execute(f'PRAGMA table_info("{table}")').fetchall()
    keys = [column["name"] for column in columns if column["pk"]]
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in connection.execute(f'SELECT * FROM "{table}"'):
        shown = {name: _shown(table, name, row[name]) for name in row.keys()}  # noqa: SIM118
        rows[tuple(shown[key] for key in keys)] = shown
    return rows


def _shown(table: str, column: str, value: Any) -> Any:
    if isinstance(value, bytes):
        if column == "fingerprint":
            return value.hex()
        if len(value) == 16:
            return str(UUID(bytes=value))
        if table == "tenfold_outbox":
            return f"(the envelope below, {len(value)} bytes of MessagePack)"
        try:
            return msgspec.msgpack.decode(value)
        except msgspec.DecodeError:
            return value.hex()
    if isinstance(value, int) and column == "date":
        return (_EPOCH + timedelta(days=value)).date().isoformat()
    if isinstance(value, int) and (column == "at" or column.endswith("_at")):
        return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
    if isinstance(value, str) and value.startswith(("{", "[")):
        return msgspec.json.decode(value)
    return value
