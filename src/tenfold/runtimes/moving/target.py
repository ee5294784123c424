"""The database that is moved to: what it is told of the move, and what is beside the rows."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import msgspec

from tenfold.adapters.postgres.errors import DRIVER_ERRORS
from tenfold.adapters.postgres.horizon import keep_order
from tenfold.contracts.structs import Struct
from tenfold.runtimes.moving.arrival import MOVER_LOCK
from tenfold.runtimes.moving.errors import MoveRefusedError
from tenfold.runtimes.moving.source import SourceFile
from tenfold.runtimes.moving.tables import quoted
from tenfold.runtimes.opening import OpenedModule

__all__ = ["Reference", "Target"]

_MARK: Final = "move"
_CREATE: Final = """
CREATE SCHEMA IF NOT EXISTS tenfold;
CREATE TABLE IF NOT EXISTS tenfold.moves (
    name text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('copying', 'rehearsed', 'done')),
    source text NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rows_copied bigint NOT NULL DEFAULT 0,
    pause_ms bigint,
    dropped jsonb NOT NULL DEFAULT '[]'
);
"""
_FOUND: Final = "SELECT state, source, dropped FROM tenfold.moves WHERE name = $1"
_BEGIN: Final = """
INSERT INTO tenfold.moves (name, state, source) VALUES ($1, 'copying', $2)
ON CONFLICT (name) DO UPDATE SET state = 'copying', changed_at = clock_timestamp()
"""
_END: Final = """
UPDATE tenfold.moves SET state = $2, pause_ms = $3, changed_at = clock_timestamp()
WHERE name = $1
"""
_PROGRESS: Final = """
UPDATE tenfold.moves SET rows_copied = rows_copied + $2, changed_at = clock_timestamp()
WHERE name = $1
"""
_DROPPED: Final = "UPDATE tenfold.moves SET dropped = $2::text::jsonb WHERE name = $1"
_REFERENCES: Final = """
SELECT n.nspname, r.relname, c.conname, pg_get_constraintdef(c.oid)
FROM pg_constraint AS c JOIN pg_class AS r ON r.oid = c.conrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE c.contype = 'f' AND n.nspname = ANY ($1::text[])
"""
_COUNTED: Final = """
SELECT n.nspname, r.relname, a.attname,
    pg_get_serial_sequence(format('%I.%I', n.nspname, r.relname), a.attname)
FROM pg_attribute AS a JOIN pg_class AS r ON r.oid = a.attrelid
JOIN pg_namespace AS n ON n.oid = r.relnamespace
WHERE n.nspname = $1 AND r.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    AND pg_get_serial_sequence(format('%I.%I', n.nspname, r.relname), a.attname) IS NOT NULL
"""
_META: Final = """
INSERT INTO {s}.tenfold_meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
_NEWEST: Final = """
UPDATE {s}.tenfold_projections SET newest = $2 WHERE name = $1 AND newest < $2
"""
_SEEDED: Final = """
INSERT INTO tenfold.marks (name, value) VALUES ($1, 'done') ON CONFLICT (name) DO NOTHING
"""
_KEPT_META: Final = ("epoch", "outbox_floor")


class Reference(Struct):
    """A foreign key that is left out while rows are copied, in whichever order they come."""

    schema: str
    table: str
    name: str
    definition: str


class Target:
    """One database, on a connection of the mover's own."""

    def __init__(self, connection: asyncpg.Connection[Any], modules: list[str]) -> None:
        self.connection = connection
        self._modules = modules
        self._references: list[Reference] = []

    async def begin(self, source: str) -> None:
        """Note that a move into this database is under way, or goes on.

        Raises: MoveRefusedError where it has data of its own, or another source's.
        """
        if not await self.connection.fetchval("SELECT pg_try_advisory_lock($1)", MOVER_LOCK):
            raise MoveRefusedError(
                "Another process moves into this database. Nothing was changed. Wait for it, or "
                "end it, and run the move again."
            )
        await self.connection.execute(_CREATE)
        found = await self.connection.fetchrow(_FOUND, _MARK)
        if found is None:
            await self._refuse_data()
        elif found["source"] != source or found["state"] == "done":
            done = "has been moved to" if found["state"] == "done" else "is being moved to"
            raise MoveRefusedError(
                f"This database {done} from {found['source']}. Nothing was changed. Name an empty "
                "database to move into."
            )
        else:
            self._references = msgspec.json.decode(found["dropped"], type=list[Reference])
        await self.connection.execute(_BEGIN, _MARK, source)
        # A commit that is lost with the server is copied again: only the last one has to be safe.
        await self.connection.execute("SET synchronous_commit = off")

    async def note(self, rows: int) -> None:
        """Note how far it is, for whoever looks into the database."""
        await self.connection.execute(_PROGRESS, _MARK, rows)

    async def leave_references_out(self) -> None:
        """Drop the foreign keys, and keep how they are said."""
        rows = await self.connection.fetch(_REFERENCES, self._modules)
        found = [Reference(schema=r[0], table=r[1], name=r[2], definition=r[3]) for r in rows]
        if not found:
            return
        self._references += found
        async with self.connection.transaction():
            kept = msgspec.json.encode(self._references).decode()
            await self.connection.execute(_DROPPED, _MARK, kept)
            for each in found:
                await self.connection.execute(
                    f"ALTER TABLE {quoted(each.schema)}.{quoted(each.table)} "
                    f"DROP CONSTRAINT {quoted(each.name)}"
                )

    async def answer_from(self, opened: OpenedModule, module: str, active: dict[str, int]) -> None:
        """Make the generations of projections that answer at the source, and no others."""
        generations = opened.resources.generations
        states = await generations.state()
        for name, number in active.items():
            if name not in states:
                continue  # a projection that the code no longer has
            if states[name].active != number:
                await self.connection.execute(_NEWEST.format(s=quoted(module)), name, number - 1)
                made = await generations.begin(name)
                if made != number:
                    raise MoveRefusedError(
                        f"The projection {name!r} of {module!r} answers from generation {number}, "
                        f"and the target is at {made} already. Nothing was switched over. Begin "
                        "with an empty database."
                    )
                await generations.swap(name, made)
                await generations.drop(name, states[name].active)

    async def finish(
        self, files: list[SourceFile], marks: list[str], *, state: str, pause_ms: int
    ) -> None:
        """Set what counts on where the source stands, and note the move's end, durably."""
        async with self.connection.transaction():
            await self.connection.execute("SET LOCAL synchronous_commit = on")
            for file in files:
                await self._count_on(file)
                text = _META.format(s=quoted(file.module))
                for key, value in file.meta().items():
                    if key in _KEPT_META:
                        await self.connection.execute(text, key, value)
            for each in self._references:
                await self.connection.execute(
                    f"ALTER TABLE {quoted(each.schema)}.{quoted(each.table)} "
                    f"ADD CONSTRAINT {quoted(each.name)} {each.definition} NOT VALID"
                )
            for mark in marks:
                await self.connection.execute(_SEEDED, mark)
            await self.connection.execute(_DROPPED, _MARK, "[]")
            await self.connection.execute(_END, _MARK, state, pause_ms)
        for file in files:
            await keep_order(self.connection, file.module)

    async def validate(self) -> list[str]:
        """Let the server check the foreign keys, with the product at work.

        The rows are here, whatever it finds: SQLite checks no key that somebody
        else's connection writes.

        Returns: what is left to be done where it found a row that fits none, or was lost.
        """
        references, self._references = self._references, []
        left = []
        for each in references:
            text = (
                f"ALTER TABLE {quoted(each.schema)}.{quoted(each.table)} "
                f"VALIDATE CONSTRAINT {quoted(each.name)}"
            )
            try:
                await self.connection.execute(text)
            except DRIVER_ERRORS as error:
                left.append(f"{text}: {error}")
        return left

    async def _count_on(self, file: SourceFile) -> None:
        given = file.numbers()
        for schema, table, column, sequence in await self.connection.fetch(_COUNTED, file.module):
            there = await self.connection.fetchval(
                f"SELECT max({quoted(column)}) FROM {quoted(schema)}.{quoted(table)}"
            )
            newest = max(there or 0, given.get(table, 0))
            if newest:
                await self.connection.execute(
                    "SELECT setval($1::text::regclass, $2)", sequence, newest
                )

    async def _refuse_data(self) -> None:
        for module in self._modules:
            for table in ("tenfold_outbox", "tenfold_queue", "tenfold_inbox"):
                place = f"{quoted(module)}.{table}"
                if await self.connection.fetchval(f"SELECT EXISTS (SELECT 1 FROM {place})"):
                    raise MoveRefusedError(
                        f"The target's module {module!r} has worked already: {table} is not "
                        "empty. Nothing was changed. Name an empty database to move into."
                    )
