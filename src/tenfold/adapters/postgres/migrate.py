"""A module's migrations, applied in its schema, by one process at a time.

Each revision is a transaction of its own together with its mark in the schema's
`alembic_version`, so a start that was killed on the way goes on where it was.
Whoever applies holds an advisory lock; others wait for it, and find the work
done. A revision that cannot get a table's lock soon gives way, so that nothing
queues behind it, and is tried again. One that says `transactional = False` runs
each statement by itself, as an index needs that is made concurrently; the
invalid index of one that was interrupted is dropped before it is tried again.

A schema without any revision has no old code on it: it gets those of both phases.

The connection is the migration's own: only here is the search_path set, so that
revisions name tables as they do on SQLite.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.backfill import backfill_rows, read_backfills
from tenfold.adapters.postgres.blocking import watching
from tenfold.adapters.postgres.dialect import quote
from tenfold.adapters.postgres.errors import unavailable
from tenfold.adapters.postgres.schema import create_platform_tables, lock_key
from tenfold.contracts.structs import Struct
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.errors import MigrationError
from tenfold.tables.revisions import (
    PHASES,
    Phase,
    backfill_of,
    fingerprint_of,
    is_ahead,
    mistakes,
    next_steps,
    phase_of,
    read_script,
    statement_timeout_of,
    steps_from,
    told,
    transactional_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["MigrationLimits", "Progress", "migrate", "pending", "read_heads", "read_state"]

Progress = Callable[[BackfillProgress], None]
_log = logging.getLogger("tenfold.migrations")
_DRIVER: Final = "postgresql.tenfold"
_VERSIONS: Final = "SELECT version_num FROM {s}.alembic_version"
_RECORDED: Final = "SELECT value FROM {s}.tenfold_meta WHERE key = $1"
_RECORD: Final = """
INSERT INTO {s}.tenfold_meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
# What was known for other phases, or of another folder, holds no more once something was applied.
_FORGET: Final = "DELETE FROM {s}.tenfold_meta WHERE key LIKE 'migrations%'"
# While it is there, the schema's first migration has not ended, and no code has run on it.
_NEW: Final = """
INSERT INTO {s}.tenfold_meta VALUES ('migrations_new', '') ON CONFLICT DO NOTHING
"""
_INVALID: Final = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT i.indisvalid
    AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index AS p WHERE p.index_relid = c.oid)
"""
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"
# Somebody holds the table, or waits for what this transaction holds: it is begun again.
_GIVE_WAY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class MigrationLimits(Struct):
    """How a migration waits for others, in seconds.

    `lock_timeout_s` is how long a revision may wait for a table, and everything
    else behind it; after that it gives way and is tried again, for `retry_s` in all.
    `statement_timeout_s` is how long a statement may hold what it has got, where
    its revision says nothing else. After `backfill_s` no further batch of a
    backfill begins, and the revisions behind it wait for another run; None for
    as long as it takes.
    """

    lock_timeout_s: float = 1.0
    retry_s: float = 60.0
    statement_timeout_s: float = 60.0
    backfill_s: float | None = None
    connect_timeout_s: float = 10.0


class _Work(Struct):
    """What is applied where."""

    url: str
    module: str
    migrations: Path
    phases: tuple[Phase, ...]
    limits: MigrationLimits

    @property
    def key(self) -> str:
        """Where the fingerprint is kept of a folder whose steps of these phases are applied."""
        return "migrations" if self.phases == PHASES else f"migrations_{'_'.join(self.phases)}"

    @property
    def place(self) -> str:
        return str(self.migrations)


async def migrate(
    url: str,
    module: str,
    migrations: Path,
    on_step: Callable[[str], None] = lambda _: None,
    *,
    phases: Sequence[Phase] = PHASES,
    limits: MigrationLimits | None = None,
    on_batch: Progress = lambda _: None,
    ahead_ok: bool = False,
) -> list[str]:
    """Bring a module's schema to the newest revision of its folder.

    Args:
        url: of the server itself: a pooler that changes connections between two
            transactions keeps no lock.
        module: its name, which is the schema's; made where it does not exist.
        migrations: the folder; one that is missing or empty has nothing to do.
        on_step: told each revision, as `0002 add a column`, before it is applied.
        phases: which revisions are applied. The first of another phase is where it ends;
            a schema that has none yet gets all.
        on_batch: told how far a backfill is, after each batch.
        ahead_ok: whether a schema may be at a revision that the folder does not have.
            Old code that begins again during a roll-out, or is rolled back to, finds it so.
    Returns: the revisions applied by this process, in order and as `on_step` was told
        them; empty where there was nothing to do.
    Raises: MigrationError (NOT_DONE): the revisions before the one it names are
        applied and stay, that one has left nothing; StoreUnavailableError.
    """
    fingerprint = fingerprint_of(migrations)
    if fingerprint is None:
        return []
    work = _work(url, module, migrations, phases, limits)
    async with _connected(work) as connection:
        if await _recorded(connection, work) == fingerprint:
            return []
        await create_platform_tables(connection, module)
    script = read_script(module, migrations)
    run = _Run(work, script, on_step, on_batch)
    try:
        async with _turn(work) as beside:
            if ahead_ok and is_ahead(script, await read_heads(beside, module)):
                _log.warning("The schema of module %s is ahead of this code's revisions.", module)
                return []
            await run.apply_all(beside)
            if run.complete:
                await _record(work, fingerprint, changed=bool(run.applied))
    finally:
        await run.engine.dispose()
    return run.applied


async def pending(
    url: str,
    module: str,
    migrations: Path,
    *,
    phases: Sequence[Phase] = PHASES,
    limits: MigrationLimits | None = None,
) -> list[str]:
    """The revisions that `migrate` would apply, as it would tell them. Changes nothing.

    Raises: MigrationError (NOT_DONE) where the folder or the schema's revision
        cannot be read; StoreUnavailableError.
    """
    fingerprint = fingerprint_of(migrations)
    if fingerprint is None:
        return []
    work = _work(url, module, migrations, phases, limits)
    async with _connected(work) as connection:
        if await _recorded(connection, work) == fingerprint:
            return []
        current = await read_heads(connection, module)
    script = read_script(module, migrations)
    with mistakes(module, work.place):
        phases = work.phases if current else PHASES
        return [told(step.revision) for step in next_steps(script, current, phases)]


async def read_heads(connection: Any, module: str) -> tuple[str, ...]:
    """The revision that a module's schema is at; empty before the first."""
    if not await connection.fetchval(_THERE, f"{quote(module)}.alembic_version"):
        return ()
    rows = await connection.fetch(_VERSIONS.format(s=quote(module)))
    return tuple(str(row[0]) for row in rows)


async def read_state(
    url: str, module: str, *, limits: MigrationLimits | None = None
) -> tuple[tuple[str, ...], list[BackfillProgress]]:
    """The revision that a module's schema is at, and how far its backfills came.

    Raises: StoreUnavailableError (NOT_DONE).
    """
    async with _connected(_work(url, module, Path(), PHASES, limits)) as connection:
        heads = await read_heads(connection, module)
        return heads, await read_backfills(connection, module)


def _work(
    url: str,
    module: str,
    migrations: Path,
    phases: Sequence[Phase],
    limits: MigrationLimits | None,
) -> _Work:
    return _Work(
        url=url,
        module=module,
        migrations=migrations,
        phases=tuple(phases),
        limits=limits or MigrationLimits(),
    )


@asynccontextmanager
async def _connected(work: _Work) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the migration's own, whose locks end with it."""
    connection = None
    try:
        connection = await _connect(work, {})
        yield connection
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise unavailable(f"The migration of module {work.module!r}", error) from error
    finally:
        if connection is not None:
            await connection.close(timeout=work.limits.connect_timeout_s)


async def _connect(work: _Work, settings: dict[str, str]) -> asyncpg.Connection[Any]:
    arguments: dict[str, Any] = {
        "dsn": work.url,
        "timeout": work.limits.connect_timeout_s,
        "statement_cache_size": 0,
        "server_settings": {"application_name": "tenfold migrate", **settings},
    }
    if "target_session_attrs" not in work.url:
        arguments["target_session_attrs"] = "read-write"
    return await asyncpg.connect(**arguments)


@asynccontextmanager
async def _turn(work: _Work) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Hold the module's turn to migrate, on a connection beside the one that works; yields it.

    Not a lock of the revision's transaction: one that makes an index
    concurrently has to leave its transaction.
    """
    async with _connected(work) as connection:
        key = lock_key("migrations", work.module)
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", key)
        yield connection


async def _recorded(connection: asyncpg.Connection[Any], work: _Work) -> str | None:
    schema = quote(work.module)
    if not await connection.fetchval(_THERE, f"{schema}.tenfold_meta"):
        return None
    found = await connection.fetchval(_RECORDED.format(s=schema), "migrations")
    if found is None and work.key != "migrations":
        found = await connection.fetchval(_RECORDED.format(s=schema), work.key)
    return None if found is None else str(found)


async def _record(work: _Work, fingerprint: str, *, changed: bool) -> None:
    schema = quote(work.module)
    async with _connected(work) as connection, connection.transaction():
        if changed:
            await connection.execute(_FORGET.format(s=schema))
        await connection.execute(_RECORD.format(s=schema), work.key, fingerprint)


def _engine(work: _Work) -> AsyncEngine:
    from sqlalchemy.dialects import registry
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    registry.register(_DRIVER, "tenfold.adapters.postgres.dialect", "TableDialect")
    return create_async_engine(
        "postgresql+tenfold://",
        poolclass=NullPool,
        async_creator=lambda: _connect(work, _session_settings(work)),
    )


def _session_settings(work: _Work) -> dict[str, str]:
    return {
        "search_path": quote(work.module),
        "lock_timeout": str(max(int(work.limits.lock_timeout_s * 1000), 1)),
        "statement_timeout": str(int(work.limits.statement_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }


class _Run:
    """One turn: what is applied in it, step by step."""

    def __init__(
        self,
        work: _Work,
        script: ScriptDirectory,
        on_step: Callable[[str], None],
        on_batch: Progress,
    ) -> None:
        self.engine = _engine(work)
        self.applied: list[str] = []
        self.complete = False
        """Whether nothing of the phases asked for is left to apply."""
        self._work = work
        self._script = script
        self._on_step = on_step
        self._on_batch = on_batch
        loop = asyncio.get_running_loop()
        within_s = work.limits.backfill_s
        self._fill_until = None if within_s is None else loop.time() + within_s

    async def apply_all(self, beside: asyncpg.Connection[Any]) -> None:
        """Apply what there is, each revision by itself.

        Args:
            beside: the connection that holds the turn.
        """
        work = self._work
        phases = await self._phases(beside)
        while True:
            heads = await read_heads(beside, work.module)
            with mistakes(work.module, work.place):
                steps = next_steps(self._script, heads, phases)
                if not steps:
                    _refuse_blocked(work, steps_from(self._script, heads), phases)
                    break
            self._on_step(told(steps[0].revision))
            if not await self._filled(steps[0]):
                return
            await self._applied(steps[0], beside)
            self.applied.append(told(steps[0].revision))
        self.complete = True

    async def _phases(self, beside: asyncpg.Connection[Any]) -> tuple[Phase, ...]:
        """Those asked for; all of them for a schema that no code has run on."""
        schema = quote(self._work.module)
        if not await read_heads(beside, self._work.module):
            await beside.execute(_NEW.format(s=schema))
        new = await beside.fetchval(_RECORDED.format(s=schema), "migrations_new")
        return self._work.phases if new is None else PHASES

    async def _filled(self, step: Any) -> bool:
        """Run a revision's backfill, if it has one; False where time was up before its end."""
        work = self._work
        with mistakes(work.module, work.place, [step]):
            backfill = backfill_of(step.revision)
            if backfill is None:
                return True
            connection = await _connect(work, _session_settings(work))
            try:
                return await backfill_rows(
                    connection,
                    work.module,
                    str(step.revision.revision),
                    backfill,
                    until=self._fill_until,
                    on_batch=self._on_batch,
                )
            finally:
                await connection.close(timeout=work.limits.connect_timeout_s)

    async def _applied(self, step: Any, beside: asyncpg.Connection[Any]) -> None:
        """Apply one revision, and give way to others where it has to wait for a table."""
        work = self._work
        loop = asyncio.get_running_loop()
        until = loop.time() + work.limits.retry_s
        wait_s = 0.05
        blocked_by: list[str] = []
        with mistakes(work.module, work.place, [step], blocked_by):
            while True:
                try:
                    await self._attempt(step, beside, blocked_by)
                    return
                except Exception as error:
                    if not isinstance(_cause(error), _GIVE_WAY) or loop.time() > until:
                        raise
                _log.warning(
                    "Revision %s of module %s cannot get a table, gives way and is tried again. "
                    "It is held by: %s.",
                    step.revision.revision,
                    work.module,
                    "; ".join(blocked_by) or "not seen",
                )
                await asyncio.sleep(wait_s * (0.5 + random.random()))
                wait_s = min(wait_s * 2, 5.0)

    async def _attempt(
        self, step: Any, beside: asyncpg.Connection[Any], blocked_by: list[str]
    ) -> None:
        limits = self._work.limits
        alone = transactional_of(step.revision)
        bound_s = statement_timeout_of(step.revision)
        if bound_s is None:
            bound_s = limits.statement_timeout_s if alone else 0.0
        # What is made concurrently waits for transactions to end, and keeps nobody waiting.
        lock_s = limits.lock_timeout_s if alone else limits.retry_s
        async with self.engine.connect() as connection:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            await raw.execute(
                f"SET lock_timeout = {max(int(lock_s * 1000), 1)}; "
                f"SET statement_timeout = {int(bound_s * 1000)}"
            )
            if not alone:
                await _drop_invalid(raw, self._work.module)
                await connection.execution_options(isolation_level="AUTOCOMMIT")
            pid = raw.get_server_pid()
            async with watching(beside, pid, limits.lock_timeout_s / 2, blocked_by):
                await connection.run_sync(_apply, self._script, step, self._work.module)


def _apply(connection: Connection, script: ScriptDirectory, step: Any, schema: str) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from tenfold.tables.columns import metadata

    context = MigrationContext.configure(
        connection,
        opts={
            "fn": lambda heads, context: [step],
            "script": script,
            "target_metadata": metadata(),
            "transaction_per_migration": True,
            "version_table_schema": schema,
        },
    )
    with Operations.context(context):
        context.run_migrations()


async def _drop_invalid(raw: Any, schema: str) -> None:
    """Drop what an interrupted CREATE INDEX CONCURRENTLY left, which only costs writes."""
    for row in await raw.fetch(_INVALID, quote(schema)):
        _log.info("The index %s of module %s was left half made, and is dropped.", row[0], schema)
        name = f"{quote(schema)}.{quote(row[0])}"
        await raw.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def _refuse_blocked(work: _Work, left: list[Any], phases: Sequence[Phase]) -> None:
    """Refuse to go on where new code needs a revision that stands behind one for later."""
    behind = [step.revision for step in left if phase_of(step.revision) in phases]
    if not behind:
        return
    raise MigrationError(
        f"Revision {told(behind[0])} of module {work.module!r} is to be applied before new code "
        f"runs, and stands behind {told(left[0].revision)}, which is to be applied after all old "
        "code has ended. Nothing more was applied. Roll out the version that brought the latter "
        "first; or end every process and run `tenfold migrate up --phase all`."
    )


def _cause(error: BaseException) -> BaseException:
    """What asyncpg raised, beneath what SQLAlchemy made of it."""
    found: BaseException = error
    while found.__cause__ is not None:
        found = found.__cause__
    return found
