"""The order of a module's log on PostgreSQL, and how far it may be read.

A log with many writers is not committed in the order in which its numbers were
given: a transaction that began early may commit late. So the number of an event
is made of its transaction's (`seq` = transaction × 65,536 + place in it), and a
reader stays below the horizon: the oldest transaction that is still open. All
below it have ended, and nothing can appear there any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tenfold.adapters.postgres.schema import lock_key, quoted

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["FLOOR", "HEAD", "HORIZON", "HORIZON_AGE", "INDEX_ONLY", "keep_order"]

HORIZON: Final = """
(pg_snapshot_xmin(pg_current_snapshot())::text::bigint
    + (SELECT m.value::bigint FROM {s}.tenfold_meta AS m WHERE m.key = 'xid_offset')) * 65536
"""
"""The first position that may not be read yet, in the statement's own snapshot."""

FLOOR: Final = """
SELECT coalesce((SELECT value::bigint FROM {s}.tenfold_meta WHERE key = 'outbox_floor'), 0)
"""
"""The position of the newest forgotten event."""

HEAD: Final = """
SELECT greatest(
    (SELECT max(seq) FROM {s}.tenfold_outbox WHERE seq < ({horizon})), ({floor})
)
"""
"""How far the log may be read. `max` is one step of the index, from the horizon backwards."""

HORIZON_AGE: Final = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(began)), 0)::float8 FROM (
    SELECT xact_start AS began FROM pg_stat_activity WHERE backend_xid IS NOT NULL
    UNION ALL SELECT prepared FROM pg_prepared_xacts
) AS held
"""
"""Seconds since the oldest transaction began that has written and is still open; 0 without one.

Of other users' transactions only a member of `pg_read_all_stats` is told.
"""

INDEX_ONLY: Final = "SET LOCAL enable_bitmapscan = off; SET LOCAL enable_seqscan = off"
"""Before a statement that reads a page of the log.

The planner does not know where the horizon is, and at times thinks so little to
be left below it that it reads all of it, to sort it: with a backlog of a million
events that would be done for every page.
"""

_PLACE: Final = """
SELECT greatest(
        coalesce((SELECT max(seq) FROM {s}.tenfold_outbox), 0),
        coalesce((SELECT value::bigint FROM {s}.tenfold_meta WHERE key = 'outbox_floor'), 0)
    ) / 65536 AS newest,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint
        + (SELECT value::bigint FROM {s}.tenfold_meta WHERE key = 'xid_offset') AS next
"""
_RAISE: Final = """
UPDATE {s}.tenfold_meta SET value = (value::bigint + $1)::text WHERE key = 'xid_offset'
"""


async def keep_order(connection: Connection, schema: str) -> int:
    """Let the log go on growing where its cluster's transaction numbers are behind it.

    They are after a dump was restored into another cluster: without this, new
    events would be numbered below old ones, and no reader would find them. Run
    at open, after the tables were made; safe to run by many processes at once. In a
    transaction of its own unless one is open.

    Args:
        schema: the module's name, unquoted.
    Returns: by how much the numbers were raised; 0 where they are in order.
    """
    if await _missing(connection, schema) <= 0:
        return 0
    if connection.is_in_transaction():
        return await _raise(connection, schema)
    async with connection.transaction(isolation="read_committed"):
        return await _raise(connection, schema)


async def _raise(connection: Connection, schema: str) -> int:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", lock_key("order", schema))
    missing = await _missing(connection, schema)
    if missing > 0:
        await connection.execute(_RAISE.format(s=quoted(schema)), missing)
    return max(missing, 0)


async def _missing(connection: Connection, schema: str) -> int:
    place = await connection.fetchrow(_PLACE.format(s=quoted(schema)))
    return int(place["newest"] - place["next"] + 1)
