"""A database into which a product is being moved: who comes early waits for the end of it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import asyncpg

from tenfold.adapters.postgres.errors import DRIVER_ERRORS, unavailable
from tenfold.adapters.postgres.schema import lock_key
from tenfold.adapters.postgres.session import Session
from tenfold.contracts.errors import StoreUnavailableError

__all__ = ["MOVER_LOCK", "await_arrival", "is_arriving"]

MOVER_LOCK: Final = lock_key("move", "tenfold")
"""Held by whoever moves into the database, for as long as its connection lives."""
_LOOK_S: Final = 0.05
_STATE: Final = """
SELECT to_regclass('tenfold.moves') IS NOT NULL
"""
_UNFINISHED: Final = """
SELECT source, state, NOT pg_try_advisory_xact_lock_shared($1) AS alive
FROM tenfold.moves WHERE state <> 'done'
"""
_log = logging.getLogger("tenfold.move")


async def is_arriving(url: str) -> bool:
    """Whether somebody moves into this database at this moment. Raises: StoreUnavailableError."""
    try:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            found = await _look(connection)
        finally:
            await connection.close()
    except DRIVER_ERRORS as error:
        raise unavailable("The look for a move", error) from error
    return found is not None and bool(found["alive"])


async def await_arrival(session: Session) -> None:
    """Return when no move into this database is unfinished.

    A product that is started on it before the switch serves as soon as that is done.

    Raises: StoreUnavailableError (NOT_DONE) where a move was begun and nobody is at it.
    """
    told = False
    while (found := await session.read(_look)) is not None:
        if not found["alive"]:
            raise StoreUnavailableError(
                f"The product's data was to be moved here from {found['source']}, and that has "
                f"not ended: it is {found['state']}. Nothing was started. Run `tenfold move` to "
                "its end first, or name another database."
            )
        if not told:
            told = True
            _log.info("The data is being moved here from %s: waiting.", found["source"])
        # Another process's progress can only be looked at, not awaited.
        await asyncio.sleep(_LOOK_S)


async def _look(connection: Any) -> Any:
    if not await connection.fetchval(_STATE):
        return None
    return await connection.fetchrow(_UNFINISHED, MOVER_LOCK)
