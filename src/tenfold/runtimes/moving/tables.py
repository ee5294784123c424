"""Which tables are copied, and how: read off both databases, and required to fit."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from typing import Any, Final

import asyncpg

from tenfold.contracts.structs import Struct
from tenfold.runtimes.moving.errors import MoveRefusedError
from tenfold.runtimes.moving.values import Convert, canonical, to_target

__all__ = ["TableCopy", "quoted", "read_copies"]

_PLATFORM: Final = (
    "tenfold_outbox",
    "tenfold_queue",
    "tenfold_inbox",
    "tenfold_replies",
    "tenfold_positions",
)
"""The platform's records that go along. Claims are dropped, as if their workers had died."""
_NOT_THE_PRODUCTS: Final = re.compile(r"tenfold_|sqlite_|alembic_version$")
_GENERATION: Final = re.compile(r"(.+)__(\d+)")
_SEARCH_PARTS: Final = ("", "_data", "_idx", "_docsize", "_config", "_content", "_rows")
_PARKED, _DUE = 3, 1
_TABLES: Final = """
SELECT name, coalesce(sql, '') FROM sqlite_master WHERE type = 'table' ORDER BY name
"""
_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attgenerated <> ''
FROM pg_attribute AS a
WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_KEY: Final = """
SELECT a.attname FROM pg_index AS i
JOIN unnest(i.indkey) WITH ORDINALITY AS k (attnum, place) ON true
JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY k.place
"""


class TableCopy(Struct):
    """One table on both sides.

    `keep` is a condition on the source's rows; others are not copied. Rows of
    the source come in the order of `columns`; `key` gives the places of its key.
    """

    module: str
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    key: tuple[int, ...]
    keep: str
    to_target: tuple[Convert, ...]
    canonical: tuple[Convert, ...]

    @property
    def key_names(self) -> tuple[str, ...]:
        """The columns of its key."""
        return tuple(self.columns[at] for at in self.key)

    @property
    def key_types(self) -> tuple[str, ...]:
        """Their types on PostgreSQL."""
        return tuple(re.sub(r"\(.*\)", "", self.types[at]) for at in self.key)

    @property
    def place(self) -> str:
        """The target's name, quoted, with its schema."""
        return f"{quoted(self.module)}.{quoted(self.name)}"

    def record(self, raw: tuple[Any, ...]) -> tuple[Any, ...]:
        """A row as the target takes it."""
        return tuple([make(value) for make, value in zip(self.to_target, raw, strict=True)])

    def compared(self, record: Any) -> list[Any]:
        """A row of the target in the form in which rows are compared."""
        return [make(value) for make, value in zip(self.canonical, record, strict=True)]

    def key_of(self, row: Any) -> tuple[Any, ...]:
        """The key of a row, in whichever form the row is."""
        return tuple([row[at] for at in self.key])

    def key_record(self, raw_key: tuple[Any, ...]) -> tuple[Any, ...]:
        """A key of the source's as the target takes it."""
        return tuple(
            [self.to_target[at](value) for at, value in zip(self.key, raw_key, strict=True)]
        )


def quoted(name: str) -> str:
    """An identifier as SQL spells it; the same for both databases."""
    return '"' + name.replace('"', '""') + '"'


async def read_copies(
    module: str, source: sqlite3.Connection, target: asyncpg.Connection[Any]
) -> list[TableCopy]:
    """The tables of one module that are copied, the platform's records among them.

    Raises: MoveRefusedError where one does not fit.
    """
    active, building = _projections(source)
    kept = dict.fromkeys((*_own_tables(source, active), *_PLATFORM), "1")
    kept.update(dict.fromkeys(_BY_GENERATION, _kept(building)))
    return [await _read_copy(module, name, source, target, keep) for name, keep in kept.items()]


_BY_GENERATION: Final = ("tenfold_queue", "tenfold_inbox", "tenfold_positions")


def _projections(source: sqlite3.Connection) -> tuple[dict[str, int], dict[str, int]]:
    """Which generation of each projection answers, and which are being built."""
    if not source.execute(
        "SELECT 1 FROM sqlite_master WHERE name = 'tenfold_projections'"
    ).fetchone():
        return {}, {}
    rows = source.execute("SELECT name, active, building FROM tenfold_projections").fetchall()
    return {row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows if row[2] is not None}


def _kept(building: Mapping[str, int]) -> str:
    """Leave out what belongs to a generation that is being built: it is built anew."""
    left_out = [
        f"(substr(handler, 1, {len(name) + 1}) = '{name}.' AND generation = {number})"
        for name, number in building.items()
    ]
    return f"NOT ({' OR '.join(left_out)})" if left_out else "1"


def _own_tables(source: sqlite3.Connection, active: Mapping[str, int]) -> list[str]:
    tables = dict(source.execute(_TABLES).fetchall())
    searches = [name for name, sql in tables.items() if sql.upper().startswith("CREATE VIRTUAL")]
    parts = {name + end for name in searches for end in _SEARCH_PARTS}
    made = _made(source, active)
    return [
        name
        for name in tables
        if name not in parts
        and not _NOT_THE_PRODUCTS.match(name)
        and (name in made or not _is_a_generation(source, name))
    ]


def _made(source: sqlite3.Connection, active: Mapping[str, int]) -> set[str]:
    """The tables of the generations that answer."""
    found: set[str] = set()
    for name, number in active.items():
        row = source.execute(
            "SELECT made FROM tenfold_generations WHERE projection = ? AND generation = ?",
            (name, number),
        ).fetchone()
        found |= {made for kind, made in json.loads(row[0]) if kind == "table"} if row else set()
    return found


def _is_a_generation(source: sqlite3.Connection, name: str) -> bool:
    """Whether a table is one of some generation's: of one that answers no more, or not yet."""
    if not _GENERATION.fullmatch(name):
        return False
    rows = source.execute("SELECT made FROM tenfold_generations").fetchall()
    return any(f'"{name}"' in row[0] for row in rows)


async def _read_copy(
    module: str, name: str, source: sqlite3.Connection, target: asyncpg.Connection[Any], keep: str
) -> TableCopy:
    place = f"{quoted(module)}.{quoted(name)}"
    have = [row[1] for row in source.execute(f"PRAGMA table_info({quoted(name)})")]
    wanted = {row[0]: row[1] for row in await target.fetch(_COLUMNS, place) if not row[2]}
    key = [row[0] for row in await target.fetch(_KEY, place)]
    platform = name in _PLATFORM
    columns = [column for column in have if column in wanted]
    missing = [column for column in have if column not in wanted]
    if not platform and missing:
        raise MoveRefusedError(
            f"The table {name!r} of module {module!r} has no {', '.join(missing)} in the target. "
            "Nothing was moved. Run the same version of the product on both sides: bring the "
            "source to its newest migration with `tenfold migrate`."
        )
    if not key or not set(key) <= set(columns):
        raise MoveRefusedError(
            f"The table {name!r} of module {module!r} has no primary key by which its rows could "
            "be followed while the product runs. Nothing was moved. Give it one by a migration."
        )
    types = tuple(wanted[column] for column in columns)
    convert = [to_target(type_) for type_ in types]
    if name == "tenfold_queue":
        at = columns.index("waits")
        # Without the claims that kept their lanes busy there is nobody to wake them.
        convert[at] = lambda state: _DUE if state == _PARKED else state
    return TableCopy(
        module=module,
        name=name,
        columns=tuple(columns),
        types=types,
        key=tuple(columns.index(column) for column in key),
        keep=keep,
        to_target=tuple(convert),
        canonical=tuple(canonical(type_) for type_ in types),
    )
