"""A backfill on PostgreSQL: a batch is a transaction, which others' writes hardly notice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from tenfold.adapters.postgres.dialect import quote
from tenfold.tables.backfilling import Backfill, BackfillProgress, BackfillTexts

__all__ = ["backfill_rows", "read_backfills"]

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS {s}.tenfold_backfills (
    revision text PRIMARY KEY,
    last text NOT NULL DEFAULT '',
    seen bigint NOT NULL DEFAULT 0,
    changed bigint NOT NULL DEFAULT 0,
    total bigint NOT NULL,
    ended boolean NOT NULL DEFAULT false,
    began timestamptz NOT NULL DEFAULT clock_timestamp(),
    at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"
_ALL: Final = """
SELECT revision, seen, changed, total, ended FROM {s}.tenfold_backfills ORDER BY began
"""
_ROWS: Final = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)"
_BEGIN: Final = """
INSERT INTO {s}.tenfold_backfills (revision, total) VALUES ($1, $2) ON CONFLICT DO NOTHING
"""
_STATE: Final = """
SELECT last, seen, changed, total, ended FROM {s}.tenfold_backfills WHERE revision = $1 FOR UPDATE
"""
_STEP: Final = """
UPDATE {s}.tenfold_backfills
SET last = $2, seen = $3, changed = $4, ended = $5, at = clock_timestamp() WHERE revision = $1
"""
_GIVE_WAY: Final = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
)
_MOST_FAILURES: Final = 30


async def read_backfills(connection: Any, schema: str) -> list[BackfillProgress]:
    """How far each backfill of a schema came, in the order in which they began."""
    if not await connection.fetchval(_THERE, f"{quote(schema)}.tenfold_backfills"):
        return []
    rows = await connection.fetch(_ALL.format(s=quote(schema)))
    return [BackfillProgress(**row) for row in rows]


async def backfill_rows(
    connection: Any,
    schema: str,
    revision: str,
    backfill: Backfill,
    *,
    until: float | None,
    on_batch: Callable[[BackfillProgress], None],
) -> bool:
    """Change the rows that are left, batch by batch.

    Args:
        until: the loop's time after which no further batch begins.
    Returns: whether all is done; where it is not, another call goes on from there.
    """
    await _begin(connection, schema, revision, backfill)
    texts = BackfillTexts(backfill, "postgresql", f"{quote(schema)}.")
    loop = asyncio.get_running_loop()
    failures = 0
    while True:
        try:
            async with connection.transaction(isolation="read_committed"):
                progress = await _batch(connection, schema, revision, texts, backfill.batch)
            failures = 0
        except _GIVE_WAY:
            failures += 1
            if failures > _MOST_FAILURES:
                raise
            await asyncio.sleep(min(0.02 * 2**failures, 2.0) * (0.5 + random.random()))
            continue
        on_batch(progress)
        if progress.ended:
            return True
        if until is not None and loop.time() >= until:
            return False
        await asyncio.sleep(backfill.pause_s)


async def _begin(connection: Any, schema: str, revision: str, backfill: Backfill) -> None:
    table = f"{quote(schema)}.{quote(backfill.table)}"
    await connection.execute("SET client_min_messages = 'warning'")
    await connection.execute(_TABLE.format(s=quote(schema)))
    total = await connection.fetchval(_ROWS, table)
    if total is not None and total < 0:  # never analyzed
        total = await connection.fetchval(f"SELECT count(*) FROM {table}")
    await connection.execute(_BEGIN.format(s=quote(schema)), revision, total or 0)


async def _batch(
    connection: Any, schema: str, revision: str, texts: BackfillTexts, size: int
) -> BackfillProgress:
    """One batch and how far it came, in the transaction that is open."""
    state = await connection.fetchrow(_STATE.format(s=quote(schema)), revision)
    last, seen, changed, total, ended = state
    if not ended:
        found = await connection.fetchrow(texts.end_after(last))
        end = "" if found is None else ", ".join(found)
        done = await connection.execute(texts.change(last, end))
        changed += int(done.rpartition(" ")[2])
        ended = found is None
        seen = max(seen, total) if ended else seen + size
        await connection.execute(_STEP.format(s=quote(schema)), revision, end, seen, changed, ended)
    return BackfillProgress(revision=revision, seen=seen, changed=changed, total=total, ended=ended)
