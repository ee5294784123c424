"""Who keeps a migration waiting: seen while it waits, since afterwards nobody knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

__all__ = ["watching"]

_BLOCKERS: Final = """
SELECT pid, coalesce(nullif(application_name, ''), backend_type), state,
    extract(epoch FROM clock_timestamp() - xact_start)::float8, left(query, 120)
FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids($1))
"""


@asynccontextmanager
async def watching(
    connection: Any, pid: int, every_s: float, seen: list[str]
) -> AsyncIterator[None]:
    """Note who blocks a session, for as long as the block lasts.

    Args:
        connection: another than the session's, idle.
        pid: the session's.
        seen: holds those that were seen last, as people read them.
    """
    seen.clear()
    looking = asyncio.create_task(_look(connection, pid, every_s, seen))
    try:
        yield
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def _look(connection: Any, pid: int, every_s: float, seen: list[str]) -> None:
    while True:
        await asyncio.sleep(every_s)
        rows = await connection.fetch(_BLOCKERS, pid)
        if rows:
            seen[:] = [_told(row) for row in rows]


def _told(row: Any) -> str:
    pid, name, state, since_s, query = row
    since = "" if since_s is None else f", in a transaction for {since_s:.0f} s"
    return f"process {pid} of the server ({name}, {state}{since}: {' '.join(query.split())})"
