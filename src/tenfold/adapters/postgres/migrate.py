"""A module's migrations, applied in its schema, by one process at a time.

Each revision is a transaction of its own together with its mark in the schema's
`alembic_version`, so a start that was killed on the way goes on where it was.
Whoever applies holds an advisory lock; others wait for it, and find the work
done. A revision that cannot get a table's lock soon gives way, so that nothing
queues behind it, and is tried again.

The connection is the migration's own: only here is the search_path set, so that
revisions name tables as they do on SQLite.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.dialect import quote
from tenfold.adapters.postgres.errors import unavailable
from tenfold.adapters.postgres.schema import create_platform_tables, lock_key
from tenfold.contracts.structs import Struct
from tenfold.tables.revisions import (
    PHASES,
    Phase,
    fingerprint_of,
    mistakes,
    next_steps,
    read_script,
    told,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["MigrationLimits", "migrate", "pending"]

_DRIVER: Final = "postgresql.tenfold"
_VERSIONS: Final = "SELECT version_num FROM {s}.alembic_version"
_RECORDED: Final = "SELECT value FROM {s}.tenfold_meta WHERE key = $1"
_RECORD: Final = """
INSERT INTO {s}.tenfold_meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
# What was known for other phases, or of another folder, holds no more once something was applied.
_FORGET: Final = "DELETE FROM {s}.tenfold_meta WHERE key LIKE 'migrations%'"
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"
# Somebody holds the table, or waits for what this transaction holds: it is begun again.
_GIVE_WAY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class MigrationLimits(Struct):
    """How a migration waits for others, in seconds.

    `lock_timeout_s` is how long a revision may wait for a table, and everything
    else behind it; after that it gives way and is tried again, for `retry_s` in all.
    """

    lock_timeout_s: float = 2.0
    retry_s: float = 60.0
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
) -> list[str]:
    """Bring a module's schema to the newest revision of its folder.

    Args:
        url: of the server itself: a pooler that changes connections between two
            transactions keeps no lock.
        module: its name, which is the schema's; made where it does not exist.
        migrations: the folder; one that is missing or empty has nothing to do.
        on_step: told each revision, as `0002 add a column`, before it is applied.
        phases: which revisions are applied. The first of another phase is where it ends.
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
    engine = _engine(work)
    applied: list[str] = []
    try:
        async with _turn(work):
            while (step := await _next_step(engine, script, work, on_step)) is not None:
                applied.append(step)
            await _record(work, fingerprint, changed=bool(applied))
    finally:
        await engine.dispose()
    return applied


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
        current: Any = ()
        if await connection.fetchval(_THERE, f"{quote(module)}.alembic_version"):
            rows = await connection.fetch(_VERSIONS.format(s=quote(module)))
            current = tuple(str(row[0]) for row in rows)
    script = read_script(module, migrations)
    with mistakes(module, work.place):
        return [told(step.revision) for step in next_steps(script, current, work.phases)]


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
async def _turn(work: _Work) -> AsyncIterator[None]:
    """Hold the module's turn to migrate, on a connection beside the one that works.

    Not a lock of the revision's transaction: one that makes an index
    concurrently has to leave its transaction.
    """
    async with _connected(work) as connection:
        key = lock_key("migrations", work.module)
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", key)
        yield


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
    settings = {
        "search_path": quote(work.module),
        "lock_timeout": str(int(work.limits.lock_timeout_s * 1000)),
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
    return create_async_engine(
        "postgresql+tenfold://",
        poolclass=NullPool,
        async_creator=lambda: _connect(work, settings),
    )


async def _next_step(
    engine: AsyncEngine, script: ScriptDirectory, work: _Work, on_step: Callable[[str], None]
) -> str | None:
    """Apply one revision; None where there is none left to apply."""
    until = asyncio.get_running_loop().time() + work.limits.retry_s
    wait_s = 0.05
    taken: list[Any] = []
    with mistakes(work.module, work.place, taken):
        while True:
            try:
                async with engine.connect() as connection:
                    await connection.run_sync(_apply, script, work, taken, on_step)
                return told(taken[0].revision) if taken else None
            except Exception as error:
                cause = _cause(error)
                if not isinstance(cause, _GIVE_WAY) or asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(wait_s * (0.5 + random.random()))
            wait_s = min(wait_s * 2, 5.0)


def _apply(
    connection: Connection,
    script: ScriptDirectory,
    work: _Work,
    taken: list[Any],
    on_step: Callable[[str], None],
) -> None:
    from alembic.operations import Operations
    from alembic.runtime.migration import MigrationContext

    from tenfold.tables.columns import metadata

    def first(heads: Any, context: MigrationContext) -> list[Any]:
        steps = next_steps(script, heads, work.phases)[:1]
        if steps and not taken:
            on_step(told(steps[0].revision))
        taken[:] = steps
        return steps

    context = MigrationContext.configure(
        connection,
        opts={
            "fn": first,
            "script": script,
            "target_metadata": metadata(),
            "transaction_per_migration": True,
            "version_table_schema": work.module,
        },
    )
    with Operations.context(context):
        context.run_migrations()


def _cause(error: BaseException) -> BaseException:
    """What asyncpg raised, beneath what SQLAlchemy made of it."""
    found: BaseException = error
    while found.__cause__ is not None:
        found = found.__cause__
    return found
