"""The generations of a module's projections on PostgreSQL.

Each generation has tables of its own, `{name}__{generation}`, made from what
the projection declares; no migration touches them. Their constraints and
indexes carry the number too: a schema has each name once. A number is never
given twice, so what is left of an old generation cannot be taken for a new one's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.elements import conv, quoted_name

from tenfold.adapters.postgres.dialect import TableDialect, quote
from tenfold.adapters.postgres.schema import lock_key
from tenfold.adapters.postgres.session import Session
from tenfold.ports.projections import GenerationState
from tenfold.tables.errors import GenerationError, TableDeclarationError
from tenfold.tables.scoping import physical_name
from tenfold.tables.search import create_search_sql, search_indexes

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresGenerations"]

_STATE: Final = "SELECT name, active, building, newest FROM {s}.tenfold_projections"
_ROW: Final = _STATE + " WHERE name = $1 FOR UPDATE"
_FIRST: Final = "INSERT INTO {s}.tenfold_projections VALUES ($1, 1, NULL, 1)"
_BUILD: Final = "UPDATE {s}.tenfold_projections SET building = $2, newest = $2 WHERE name = $1"
_BUILD_NONE: Final = "UPDATE {s}.tenfold_projections SET building = NULL WHERE name = $1"
_SWAP: Final = "UPDATE {s}.tenfold_projections SET active = $2, building = NULL WHERE name = $1"
_SHAPES: Final = "SELECT generation, shape FROM {s}.tenfold_generations WHERE projection = $1"
_MADE: Final = "INSERT INTO {s}.tenfold_generations VALUES ($1, $2, $3, $4)"
_UNMADE: Final = """
DELETE FROM {s}.tenfold_generations WHERE projection = $1 AND generation = $2 RETURNING made
"""
# The positions go first: a relay that is delivering is waited for, and one that comes later finds
# no place. What the inbox knows of the generation is forgotten with its age.
_FORGET_POSITIONS: Final = """
DELETE FROM {s}.tenfold_positions WHERE starts_with(handler, $1) AND generation = $2
"""
_FORGET_OTHERS: Final = """
DELETE FROM {s}.tenfold_positions
WHERE starts_with(handler, $1) AND NOT generation = ANY($2::int[])
"""
_FORGET_ENTRIES: Final = """
WITH gone AS (
    DELETE FROM {s}.tenfold_queue
    WHERE starts_with(handler, $1) AND generation = $2
        AND source_seq IS NOT NULL AND strpos(handler, '.') > 0
    RETURNING lane
)
SELECT array_agg(DISTINCT lane) FILTER (WHERE lane IS NOT NULL) FROM gone
"""
_TURN: Final = "SELECT {s}.tenfold_lock_1()"
_WAKE: Final = "SELECT {s}.tenfold_wake_1($1)"
_LONGEST_NAME: Final = 63
_ROOM: Final = len("__9999999")


class PostgresGenerations:
    """Generations of one module's projections. Implements the port `Generations`.

    Args:
        session: the platform's own work on the module's schema.
        schema: the module's name, unquoted.
        projections: the tables of each projection, by its name.
    """

    def __init__(
        self, session: Session, schema: str, projections: Mapping[str, Sequence[Table]]
    ) -> None:
        self._session = session
        self._schema = schema
        self._projections = {name: tuple(tables) for name, tables in projections.items()}
        for name, tables in self._projections.items():
            _check(name, tables)

    async def ensure(self, connection: Connection) -> list[str]:
        """Make generation 1 of projections that have none, before the module serves.

        Safe to run by many processes at once: they take turns. Nothing is dropped,
        since what does not fit this code may be another version's: see `tidy`.

        Returns: the projections whose tables are not as declared, in the generation
            that answers or is being built; each needs a rebuild, and until then its
            statements may fail.
        """
        if connection.is_in_transaction():
            return await self._ensure(connection)
        async with connection.transaction(isolation="read_committed"):
            return await self._ensure(connection)

    async def _ensure(self, connection: Connection) -> list[str]:
        await self._turn(connection)
        known = await self._rows(connection)
        for name in self._projections:
            if name not in known:
                await connection.execute(self._sql(_FIRST), name)
                await self._make(connection, name, 1)
        outdated: list[str] = []
        for name, (active, building, _) in known.items():
            shapes = await self._shapes(connection, name)
            newest = active if building is None else building
            if shapes.get(newest) != _shape(self._projections[name]):
                outdated.append(name)
        return outdated

    async def tidy(self) -> list[str]:
        """Drop what a life before left over; done by the process that begins to rebuild.

        That is a generation that was swapped out, one being built whose tables are
        not as this code declares them, and places in logs that a relay stored while
        another process dropped their generation: they would hold those logs for ever.

        Returns: the projections that need a rebuild, as in `ensure`.
        """

        async def work(connection: Connection) -> list[str]:
            await self._turn(connection)
            outdated: list[str] = []
            for name in self._projections:
                active, building, _ = await self._row(connection, name)
                shape = _shape(self._projections[name])
                shapes = await self._shapes(connection, name)
                needed = shapes.get(active) != shape
                if building is not None:
                    needed = shapes.get(building) != shape
                    if needed:
                        await connection.execute(self._sql(_BUILD_NONE), name)
                        building = None
                for left in shapes.keys() - {active, building}:
                    await self._drop(connection, name, left)
                kept = [active] if building is None else [active, building]
                await connection.execute(self._sql(_FORGET_OTHERS), name + ".", kept)
                if needed:
                    outdated.append(name)
            return outdated

        return await self._session.write(work)

    async def state(self) -> dict[str, GenerationState]:
        """Every projection by name."""
        return await self._session.read(self.read_state)

    async def read_state(self, connection: Connection) -> dict[str, GenerationState]:
        """The same, on a connection at hand: for the start, before the session is open."""
        return {
            name: GenerationState(active=active, building=building)
            for name, (active, building, _) in (await self._rows(connection)).items()
        }

    async def begin(self, name: str) -> int:
        """Make empty tables for a further generation and return its number.

        Raises: GenerationError (NOT_DONE) for a projection that is not declared.
        """

        async def work(connection: Connection) -> int:
            _, building, newest = await self._row(connection, name)
            if building is not None:
                await self._drop(connection, name, building)
            made = newest + 1
            await self._make(connection, name, made)
            await connection.execute(self._sql(_BUILD), name, made)
            return made

        return await self._session.write(work)

    async def swap(self, name: str, generation: int) -> None:
        """Let a generation answer from now on, in one transaction. See `Generations.swap`.

        Raises: GenerationError (NOT_DONE) where this is not the one being built.
        """

        async def work(connection: Connection) -> None:
            _, building, _ = await self._row(connection, name)
            if building != generation:
                raise GenerationError(
                    f"Generation {generation} of the projection {name!r} is not the one being "
                    f"built ({building or 'none is'}). Nothing was changed. Another rebuild was "
                    "begun or ended meanwhile: look at its state, and begin again."
                )
            await connection.execute(self._sql(_SWAP), name, generation)

        await self._session.write(work)

    async def drop(self, name: str, generation: int) -> None:
        """Drop a generation that does not answer. One that is gone already is no mistake.

        Waits for statements that still read it, up to the session's lock timeout.

        Raises: GenerationError (NOT_DONE) for the one that answers.
        """

        async def work(connection: Connection) -> None:
            active, building, _ = await self._row(connection, name)
            if generation == active:
                raise GenerationError(
                    f"Generation {generation} of the projection {name!r} answers, so it cannot "
                    "be dropped. Nothing was changed. Swap another one in first."
                )
            if generation == building:
                await connection.execute(self._sql(_BUILD_NONE), name)
            await self._drop(connection, name, generation)

        await self._session.write(work)

    async def _turn(self, connection: Connection) -> None:
        await connection.execute(
            "SET LOCAL lock_timeout = '60s'; SET LOCAL statement_timeout = '60s'"
        )
        key = lock_key("generations", self._schema)
        await connection.execute("SELECT pg_advisory_xact_lock($1)", key)

    async def _shapes(self, connection: Connection, name: str) -> dict[int, str]:
        rows = await connection.fetch(self._sql(_SHAPES), name)
        return {row["generation"]: row["shape"] for row in rows}

    async def _rows(self, connection: Connection) -> dict[str, tuple[int, int | None, int]]:
        rows = await connection.fetch(self._sql(_STATE))
        return {row[0]: (row[1], row[2], row[3]) for row in rows if row[0] in self._projections}

    async def _row(self, connection: Connection, name: str) -> tuple[int, int | None, int]:
        row = None
        if name in self._projections:
            row = await connection.fetchrow(self._sql(_ROW), name)
        if row is None:
            known = ", ".join(sorted(self._projections)) or "none"
            raise GenerationError(
                f"There is no projection {name!r}. Nothing was changed. This module has: {known}."
            )
        return row[1], row[2], row[3]

    async def _make(self, connection: Connection, name: str, generation: int) -> None:
        tables = self._projections[name]
        made: list[tuple[str, str]] = []
        for table in tables:
            for statement in _create(table, generation, self._schema):
                await connection.execute(statement)
            made.append(("table", physical_name(table.name, generation)))
        row = (name, generation, _shape(tables), json.dumps(made))
        await connection.execute(self._sql(_MADE), *row)

    async def _drop(self, connection: Connection, name: str, generation: int) -> None:
        made = await connection.fetchval(self._sql(_UNMADE), name, generation)
        for _, table in json.loads(made) if made is not None else ():
            await connection.execute(f"DROP TABLE IF EXISTS {quote(self._schema)}.{quote(table)}")
        handlers = name + "."
        await connection.execute(self._sql(_FORGET_POSITIONS), handlers, generation)
        await connection.execute(self._sql(_TURN))
        lanes = await connection.fetchval(self._sql(_FORGET_ENTRIES), handlers, generation)
        if lanes:
            await connection.execute(self._sql(_WAKE), lanes)

    def _sql(self, text: str) -> str:
        return text.format(s=quote(self._schema))


def _check(name: str, tables: Sequence[Table]) -> None:
    if not tables:
        raise TableDeclarationError(
            f"The projection {name!r} declares no tables, so nothing of it could be kept. "
            "Name them in its `tables`."
        )
    for table in tables:
        if table.foreign_keys:
            raise TableDeclarationError(
                f"The table {table.name!r} of the projection {name!r} has a foreign key, which "
                "would tie one generation to another. Leave it out."
            )
        for long in _names(table):
            if len(long.encode()) + _ROOM > _LONGEST_NAME:
                raise TableDeclarationError(
                    f"The name {long!r} in the projection {name!r} is too long for PostgreSQL, "
                    f"which keeps {_LONGEST_NAME} bytes of a name: with the generation's number "
                    f"behind it, it may have {_LONGEST_NAME - _ROOM}. Give it a shorter one."
                )


def _names(table: Table) -> list[str]:
    named: list[Any] = [*table.constraints, *table.indexes]
    names = [table.name, *(str(each.name) for each in named if isinstance(each.name, str))]
    names += [f"{search.name}_{c}" for search in search_indexes(table) for c in search.columns]
    return names


def _create(table: Table, generation: int, schema: str) -> list[str]:
    """The statements that make one table of one generation, with its indexes."""
    physical = table.to_metadata(
        MetaData(), schema=schema, name=physical_name(table.name, generation)
    )
    for constraint in physical.constraints:
        if isinstance(constraint.name, str):
            constraint.name = conv(physical_name(constraint.name, generation))
    indexes = sorted(physical.indexes, key=lambda index: str(index.name))
    for index in indexes:
        index.name = quoted_name(physical_name(str(index.name), generation), quote=None)
    statements: list[Any] = [CreateTable(physical), *(CreateIndex(index) for index in indexes)]
    dialect = TableDialect()  # type: ignore[no-untyped-call]
    texts = [str(statement.compile(dialect=dialect)) for statement in statements]
    for search in search_indexes(table):
        name = physical_name(search.name, generation)
        texts += create_search_sql(
            name, physical.name, search.key, search.columns, "postgresql", schema
        )
    return texts


def _shape(tables: Sequence[Table]) -> str:
    """A digest of what the tables are declared to be, wherever they are."""
    ordered = sorted(tables, key=lambda table: table.name)
    texts = [text for table in ordered for text in _create(table, 0, "module")]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
