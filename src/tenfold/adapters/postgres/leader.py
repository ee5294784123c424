"""Which of a product's processes leads: the one that holds an advisory lock.

    follower ── try the lock every 0.3 s ──> gained ──> leader, its lock tried every 0.3 s
        ^                                                  │
        └──────────────────── lost <───────────────────────┘ connection gone, or no answer

The lock belongs to a session of the server, so it is free the moment the
leader's connection ends, however that came about. A process that stands still
keeps its connection: the server ends it when it has said nothing for two
seconds. Nobody's clock is trusted but the server's. For a moment two processes
may think that they lead, the old one having not yet noticed: what leaders do is
right with two of them, and this only keeps it from being done twice over.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.errors import DRIVER_ERRORS
from tenfold.adapters.postgres.schema import lock_key
from tenfold.contracts.structs import Struct

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["LeaderLimits", "Leadership"]

_log = logging.getLogger("tenfold.leader")
_FAILURES: Final = (*DRIVER_ERRORS, TimeoutError)


class LeaderLimits(Struct):
    """Times in seconds.

    `look_s` is between two looks at the lock, `answer_s` what an answer may take
    before it counts as lost, `silent_s` after how much silence the server ends the
    session: a whole number, more than both together.
    """

    look_s: float = 0.3
    answer_s: float = 0.6
    silent_s: int = 2
    connect_timeout_s: float = 5.0
    longest_wait_s: float = 1.0


class Leadership:
    """Leads whenever nobody else does, until it is stopped.

    A waiting process asks again and again, and does not let the server wait: a
    statement that waits keeps vacuum from removing anything that died since.

    Args:
        url: the database that all processes of the product share.
        gained: awaited in a task when the lead begins; cancelled where it is lost meanwhile.
            Where it fails the lead is given up, and tried for again.
        lost: awaited when it has ended, before it is tried for again.
        name: of what is led; others lead something else in the same database.
        pooled: the connection goes through a pooler that changes sessions between two
            transactions, so that the lock is held by a transaction that stays open.
    """

    def __init__(
        self,
        url: str,
        *,
        gained: Callable[[], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
        name: str = "product",
        pooled: bool = False,
        limits: LeaderLimits | None = None,
    ) -> None:
        self._url = url
        self._gained = gained
        self._lost = lost
        self._key = lock_key("leader", name)
        self._pooled = pooled
        self._limits = limits or LeaderLimits()
        self._task: asyncio.Task[None] | None = None
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether this process leads, as far as it knows."""
        return self._leading

    async def start(self) -> None:
        """Begin to try; returns after the first try, before `gained` has ended."""
        tried = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._work(tried), name="leadership")
        await asyncio.wait([self._task, tried], return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Give the lead up for good. Neither callback is called afterwards."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _work(self, tried: asyncio.Future[None]) -> None:
        wait_s = 0.05
        while True:
            try:
                await self._compete(tried)
                wait_s = 0.05
            except _FAILURES as error:
                _log.debug("The server could not be asked who leads: %r", error)
            except Exception:  # of whatever kind: where nobody tries, nobody ever leads
                _log.exception("Trying to lead failed. It is tried again.")
            finally:
                if not tried.done():
                    tried.set_result(None)
            await asyncio.sleep(wait_s * (0.5 + random.random() / 2))
            wait_s = min(wait_s * 2, self._limits.longest_wait_s)

    async def _compete(self, tried: asyncio.Future[None]) -> None:
        """On one connection: try until the lock is held, lead, and return when it is lost."""
        limits = self._limits
        connection = await self._connect()
        try:
            while not await self._try(connection):
                if not tried.done():
                    tried.set_result(None)
                await asyncio.sleep(limits.look_s * (0.8 + 0.4 * random.random()))
            await self._lead(connection, tried)
        finally:
            # Not closed with a word: the server frees the lock either way, and may be gone.
            connection.terminate()

    async def _lead(self, connection: Connection, tried: asyncio.Future[None]) -> None:
        self._leading = True
        _log.info("This process leads: it relays, keeps schedules, trims and rebuilds.")
        beginning = asyncio.ensure_future(_awaited(self._gained))
        if not tried.done():
            tried.set_result(None)
        try:
            reason = await self._hold(connection, beginning)
        except asyncio.CancelledError:
            beginning.cancel()
            await asyncio.gather(beginning, return_exceptions=True)
            raise
        except Exception as error:
            reason = f"it could not be told whether it does ({error!r})"
        finally:
            self._leading = False
        _log.warning("This process leads no more: %s. It tries again.", reason)
        failed = beginning.done() and not beginning.cancelled() and beginning.exception()
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        await self._end()
        if failed:
            await asyncio.sleep(self._limits.longest_wait_s)

    async def _end(self) -> None:
        """Tell that the lead has ended until that is done: what runs must not begin twice."""
        while True:
            try:
                await self._lost()
            except Exception:
                _log.exception("What a leader does could not be ended. It is tried again.")
                await asyncio.sleep(self._limits.longest_wait_s)
            else:
                return

    async def _hold(self, connection: Connection, beginning: asyncio.Future[None]) -> str:
        """Look after the lock until it is lost; returns why."""
        while True:
            if beginning.done() and not beginning.cancelled():
                failure = beginning.exception()
                if failure is not None:
                    _log.error("What a leader does could not begin.", exc_info=failure)
                    return "it could not begin"
            await asyncio.sleep(self._limits.look_s)
            try:
                async with asyncio.timeout(self._limits.answer_s):
                    await connection.execute("SELECT 1")
            except _FAILURES as error:
                return f"its connection was lost ({type(error).__name__})"

    async def _try(self, connection: Connection) -> bool:
        async with asyncio.timeout(self._limits.connect_timeout_s):
            if not self._pooled:
                return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", self._key))
            silent = f"SET LOCAL idle_in_transaction_session_timeout = '{self._limits.silent_s}s'"
            await connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {silent}")
            held = await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", self._key)
            if not held:
                await connection.execute("ROLLBACK")
            return bool(held)

    async def _connect(self) -> Connection:
        arguments: dict[str, Any] = {
            "dsn": self._url,
            "timeout": self._limits.connect_timeout_s,
            "statement_cache_size": 0,
        }
        if "target_session_attrs" not in self._url:
            arguments["target_session_attrs"] = "read-write"
        connection = await asyncpg.connect(
            server_settings={"application_name": "tenfold leader"}, **arguments
        )
        # A server of before 14 does not know it: there a process that stands still leads on.
        if not self._pooled and connection.get_server_version().major >= 14:
            await connection.execute(f"SET idle_session_timeout = '{self._limits.silent_s}s'")
        return connection


async def _awaited(work: Callable[[], Awaitable[None]]) -> None:
    await work()
