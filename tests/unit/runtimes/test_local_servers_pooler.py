"""The pgbouncer that tests have is one in transaction mode."""

from __future__ import annotations

import asyncpg
import pytest

pytestmark = pytest.mark.anyio


async def test_a_session_is_not_kept_between_transactions(pgbouncer_url: str) -> None:
    first = await asyncpg.connect(pgbouncer_url, statement_cache_size=0)
    second = await asyncpg.connect(pgbouncer_url, statement_cache_size=0)
    try:
        sessions = set()
        async with first.transaction(), second.transaction():
            for each in (first, second):
                sessions.add(await each.fetchval("SELECT pg_backend_pid()"))
        assert len(sessions) == 2
        seen = {await first.fetchval("SELECT pg_backend_pid()") for _ in range(4)}
        assert seen == sessions
    finally:
        await first.close()
        await second.close()
