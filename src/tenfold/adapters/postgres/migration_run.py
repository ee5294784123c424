"""One turn of a module's migrations: revision by revision, giving way to whoever holds a table."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.backfill import backfill_rows
from tenfold.adapters.postgres.blocking import watching
from tenfold.adapters.postgres.dialect import quote
from tenfold.adapters.postgres.migration_work import (
    Work,
    connect,
    make_engine,
    read_heads,
    session_settings,
)
from tenfold.tables.backfilling import BackfillProgress
from tenfold.tables.errors import MigrationError
from tenfold.tables.revisions import (
    PHASES,
    Phase,
    backfill_of,
    mistakes,
    next_steps,
    phase_of,
    statement_timeout_of,
    steps_from,
    told,
    transactional_of,
)

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection

__all__ = ["MigrationRun", "Progress"]

Progress = Callable[[BackfillProgress], None]
_log = logging.getLogger("tenfold.migrations")
# While it is there, the schema's first migration has not ended, and no code has run on it.
_NEW: Final = """
INSERT INTO {s}.tenfold_meta VALUES ('migrations_new', '') ON CONFLICT DO NOTHING
"""
_IS_NEW: Final = "SELECT value FROM {s}.tenfold_meta WHERE key = 'migrations_new'"
_INVALID: Final = """
SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT i.indisvalid
    AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index AS p WHERE p.index_relid = c.oid)
"""
# Somebody holds the table, or waits for what this transaction holds: it is begun again.
_GIVE_WAY: Final = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


class MigrationRun:
    """One turn: what is applied in it, step by step."""

    def __init__(
        self,
        work: Work,
        script: ScriptDirectory,
        on_step: Callable[[str], None],
        on_batch: Progress,
    ) -> None:
        self.engine = make_engine(work)
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
        new = await beside.fetchval(_IS_NEW.format(s=schema))
        return self._work.phases if new is None else PHASES

    async def _filled(self, step: Any) -> bool:
        """Run a revision's backfill, if it has one; False where time was up before its end."""
        work = self._work
        with mistakes(work.module, work.place, [step]):
            backfill = backfill_of(step.revision)
            if backfill is None:
                return True
            connection = await connect(work, session_settings(work))
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


def _refuse_blocked(work: Work, left: list[Any], phases: Sequence[Phase]) -> None:
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
