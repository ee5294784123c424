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

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import asyncpg

from tenfold.adapters.postgres.backfill import read_backfills
from tenfold.adapters.postgres.dialect import quote
from tenfold.adapters.postgres.migration_run import MigrationRun, Progress
from tenfold.adapters.postgres.migration_work import (
    MigrationLimits,
    Work,
    connected,
    read_heads,
    turn,
)
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.revisions import (
    PHASES,
    Phase,
    fingerprint_of,
    is_ahead,
    mistakes,
    next_steps,
    read_script,
    told,
)

__all__ = ["MigrationLimits", "migrate", "pending", "read_state"]

_log = logging.getLogger("tenfold.migrations")
_RECORDED: Final = "SELECT value FROM {s}.tenfold_meta WHERE key = $1"
_RECORD: Final = """
INSERT INTO {s}.tenfold_meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
# What was known for other phases, or of another folder, holds no more once something was applied.
_FORGET: Final = "DELETE FROM {s}.tenfold_meta WHERE key LIKE 'migrations%'"
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"


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
    async with connected(work) as connection:
        if await _recorded(connection, work) == fingerprint:
            return []
        await create_platform_tables(connection, module)
    script = read_script(module, migrations)
    run = MigrationRun(work, script, on_step, on_batch)
    try:
        async with turn(work) as beside:
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
    async with connected(work) as connection:
        if await _recorded(connection, work) == fingerprint:
            return []
        current = await read_heads(connection, module)
    script = read_script(module, migrations)
    with mistakes(module, work.place):
        phases = work.phases if current else PHASES
        return [told(step.revision) for step in next_steps(script, current, phases)]


async def read_state(
    url: str, module: str, *, limits: MigrationLimits | None = None
) -> tuple[tuple[str, ...], list[BackfillProgress]]:
    """The revision that a module's schema is at, and how far its backfills came.

    Raises: StoreUnavailableError (NOT_DONE).
    """
    async with connected(_work(url, module, Path(), PHASES, limits)) as connection:
        heads = await read_heads(connection, module)
        return heads, await read_backfills(connection, module)


def _work(
    url: str,
    module: str,
    migrations: Path,
    phases: Sequence[Phase],
    limits: MigrationLimits | None,
) -> Work:
    return Work(
        url=url,
        module=module,
        migrations=migrations,
        phases=tuple(phases),
        limits=limits or MigrationLimits(),
    )


async def _recorded(connection: asyncpg.Connection[Any], work: Work) -> str | None:
    schema = quote(work.module)
    if not await connection.fetchval(_THERE, f"{schema}.tenfold_meta"):
        return None
    found = await connection.fetchval(_RECORDED.format(s=schema), "migrations")
    if found is None and work.key != "migrations":
        found = await connection.fetchval(_RECORDED.format(s=schema), work.key)
    return None if found is None else str(found)


async def _record(work: Work, fingerprint: str, *, changed: bool) -> None:
    schema = quote(work.module)
    async with connected(work) as connection, connection.transaction():
        if changed:
            await connection.execute(_FORGET.format(s=schema))
        await connection.execute(_RECORD.format(s=schema), work.key, fingerprint)
