"""What a migration works on: limits, connections of its own, and the module's turn."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.dialect import quote
from tenfold.adapters.postgres.errors import DRIVER_ERRORS, is_lost, unavailable
from tenfold.adapters.postgres.schema import lock_key
from tenfold.contracts.structs import Struct
from tenfold.tables.revisions import PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = [
    "MigrationLimits",
    "Work",
    "connect",
    "connected",
    "make_engine",
    "read_heads",
    "session_settings",
    "turn",
]

_DRIVER: Final = "postgresql.tenfold"
_VERSIONS: Final = "SELECT version_num FROM {s}.alembic_version"
_THERE: Final = "SELECT to_regclass($1) IS NOT NULL"


class MigrationLimits(Struct):
    """How a migration waits for others, in seconds.

    `lock_timeout_s` is how long a revision may wait for a table, and everything
    else behind it; after that it gives way and is tried again, for `retry_s` in all.
    `statement_timeout_s` is how long a statement may hold what it has got, where
    its revision says nothing else. After `backfill_s` no further batch of a
    backfill begins, and the revisions behind it wait for another run; None for
    as long as it takes.
    """

    lock_timeout_s: float = 0.5
    retry_s: float = 60.0
    statement_timeout_s: float = 60.0
    backfill_s: float | None = None
    connect_timeout_s: float = 10.0


class Work(Struct):
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
        """Where its revisions are, for errors."""
        return str(self.migrations)


@asynccontextmanager
async def connected(work: Work) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A connection of the migration's own, whose locks end with it."""
    connection = None
    try:
        connection = await connect(work, {})
        yield connection
    except (*DRIVER_ERRORS, TimeoutError) as error:
        if connection is not None and is_lost(error):
            connection.terminate()  # closing it with a word would fail as well
        raise unavailable(f"The migration of module {work.module!r}", error) from error
    finally:
        if connection is not None:
            await connection.close(timeout=work.limits.connect_timeout_s)


async def connect(work: Work, settings: dict[str, str]) -> asyncpg.Connection[Any]:
    """A connection to the server that writes."""
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
async def turn(work: Work) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Hold the module's turn to migrate, on a connection beside the one that works; yields it.

    Not a lock of the revision's transaction: one that makes an index
    concurrently has to leave its transaction.
    """
    async with connected(work) as connection:
        key = lock_key("migrations", work.module)
        await connection.execute("SET lock_timeout = 0; SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", key)
        yield connection


async def read_heads(connection: Any, module: str) -> tuple[str, ...]:
    """The revision that a module's schema is at; empty before the first."""
    if not await connection.fetchval(_THERE, f"{quote(module)}.alembic_version"):
        return ()
    rows = await connection.fetch(_VERSIONS.format(s=quote(module)))
    return tuple(str(row[0]) for row in rows)


def make_engine(work: Work) -> AsyncEngine:
    """What runs Alembic on such connections; to be disposed of."""
    from sqlalchemy.dialects import registry
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    registry.register(_DRIVER, "tenfold.adapters.postgres.dialect", "TableDialect")
    return create_async_engine(
        "postgresql+tenfold://",
        poolclass=NullPool,
        async_creator=lambda: connect(work, session_settings(work)),
    )


def session_settings(work: Work) -> dict[str, str]:
    """What a revision's session is to have: its search_path, and its bounds."""
    return {
        "search_path": quote(work.module),
        "lock_timeout": str(max(int(work.limits.lock_timeout_s * 1000), 1)),
        "statement_timeout": str(int(work.limits.statement_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": "0",
        "default_transaction_isolation": "read committed",
        "jit": "off",
    }
