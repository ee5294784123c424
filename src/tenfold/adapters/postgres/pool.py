"""Connections to PostgreSQL: bounded, handed out in the order in which they were asked for.

A connection is handed back clean or not at all, so that nothing has to be reset
between two users. asyncpg's own pool runs a query for that each time.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import asyncpg

from tenfold.adapters.postgres.connecting import (
    PoolSettings,
    connect_arguments,
    local_settings,
)
from tenfold.adapters.postgres.errors import DRIVER_ERRORS, is_lost, is_unfixable
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.structs import Struct

__all__ = ["Pool", "PoolSettings", "PoolStatistics", "Pooled"]

_log = logging.getLogger("tenfold.store")
_FIRST_WAIT_S = 0.05
_LONGEST_WAIT_S = 1.0
_RECOVER_S = 2.0
_LET_PAST = 8
"""How many are let past whoever waits first, where a connection fits them as it is."""
_LOOKED_THROUGH = 32


class PoolStatistics(Struct):
    """What a pool holds now, and what it has seen since it was made."""

    size: int
    open: int
    idle: int
    waiting: int
    connected: int
    lost: int
    failed: int


class Pooled:
    """One connection of a pool, lent to one user at a time.

    `serializable` is the isolation in which it runs a statement that begins no
    transaction.
    """

    __slots__ = ("epoch", "raw", "serializable")

    def __init__(self, raw: asyncpg.Connection[Any], epoch: int, serializable: bool) -> None:
        self.raw = raw
        self.epoch = epoch
        self.serializable = serializable


class _Waiter:
    __slots__ = ("future", "serializable")

    def __init__(self, future: asyncio.Future[Pooled], serializable: bool | None) -> None:
        self.future = future
        self.serializable = serializable

    def takes(self, pooled: Pooled) -> bool:
        """Whether it can be used as it is."""
        return self.serializable is None or self.serializable is pooled.serializable


class Pool:
    """At most `size` connections to one database, for one event loop.

    Guarantees: whoever asks first is served first, but for a few whom the
    connection fits as it is, and who are let past; a connection that is handed
    out is idle, outside a transaction, and not known to be broken; after a
    connection was lost none that stood beside it is handed out again.
    """

    def __init__(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.transaction_pooler = settings.pooler == "transaction"
        self.begin_suffix = local_settings(settings) if self.transaction_pooler else ""
        """What follows a BEGIN where nothing can be set for the whole session."""
        # By isolation: a statement of its own runs in the connection's, and setting that anew
        # costs a round trip.
        self._idle: tuple[list[Pooled], list[Pooled]] = ([], [])
        self._waiting: deque[_Waiter] = deque()
        self._open = 0
        self._epoch = 0
        self._let_past = 0
        self._growing = 0
        self._failing = False
        self._last_failure: BaseException | None = None
        self._closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._lent: set[Pooled] = set()
        self._all_back = asyncio.Event()
        self._connected = self._lost = self._failed = 0
        self._random = random.Random()

    def statistics(self) -> PoolStatistics:
        """What it holds now."""
        return PoolStatistics(
            size=self.settings.size,
            open=self._open,
            idle=len(self._idle[0]) + len(self._idle[1]),
            waiting=sum(not waiter.future.done() for waiter in self._waiting),
            connected=self._connected,
            lost=self._lost,
            failed=self._failed,
        )

    @property
    def healthy(self) -> bool:
        """Whether the last attempt to connect succeeded."""
        return not self._failing

    def take_nowait(self, serializable: bool | None = False) -> Pooled | None:
        """A connection of this isolation where one is idle and nobody waits; else None."""
        if self._waiting and self._anybody_waits():
            return None
        if serializable is None or self.transaction_pooler:
            return self._idle_one(self._idle[0]) or self._idle_one(self._idle[1])
        return self._idle_one(self._idle[serializable])

    async def take(
        self, serializable: bool | None = False, deadline: float | None = None
    ) -> Pooled:
        """A connection whose own statements run in this isolation.

        Waits its turn, and for the server to come back.

        Args:
            serializable: false for read committed; None where its user begins transactions.
            deadline: on the monotonic clock; None for the pool's own bound.
        Raises: StoreUnavailableError (NOT_DONE) where there is none in time.
        """
        pooled = self.take_nowait(serializable)
        if pooled is not None:
            return pooled
        if self.transaction_pooler:
            serializable = None
        while True:
            pooled = await self._wait(serializable, deadline)
            if serializable is None or pooled.serializable is serializable:
                return pooled
            if await self._switch(pooled, serializable):
                return pooled

    def give_back(self, pooled: Pooled) -> None:
        """Take a connection back; one that is not clean is recovered or closed in the background.

        Never blocks, so that it can be called while its user is cancelled.
        """
        raw = pooled.raw
        if pooled not in self._lent:
            return  # it was given up, as lost
        if raw.is_closed():
            self._take_off(pooled)
            self._drop(pooled)
            self._grow()
        elif _is_clean(raw):
            self._take_off(pooled)
            self._settle(pooled)
        else:
            self._spawn(self._recover(pooled))

    def lose(self, pooled: Pooled, error: BaseException) -> None:
        """Give up a connection that failed, and all that were made before: the server is gone."""
        if pooled not in self._lent:
            return
        self._lost += 1
        if pooled.epoch == self._epoch:
            self._epoch += 1
            _log.warning(
                "A connection to PostgreSQL was lost (%s: %s). All connections are made anew.",
                type(error).__name__,
                str(error).strip(),
            )
            for idle in self._idle:
                while idle:
                    self._drop(idle.pop())
        self._take_off(pooled)
        self._drop(pooled)
        self._grow()

    def abandon(self) -> None:
        """Give up every connection, since the server does not answer: who waits for it fails.

        For reads only, which somebody else can answer.
        """
        self._epoch += 1
        for idle in self._idle:
            while idle:
                self._drop(idle.pop())
        for pooled in list(self._lent):
            pooled.raw.terminate()
        if self._waiting:
            self._refuse_all(
                self._unreachable(self._last_failure or TimeoutError("it does not answer"))
            )

    async def roll_back(self, pooled: Pooled) -> None:
        """End a failed transaction, so that its locks are gone; close the connection instead
        where that fails.
        """
        try:
            await pooled.raw.execute("ROLLBACK")
        except DRIVER_ERRORS:
            pooled.raw.terminate()

    async def close(self, wait_s: float = 5.0) -> None:
        """Hand out nothing more, wait for what is lent, then close everything, within a bound."""
        self._closed = True
        self._refuse_all(self._closed_error())
        until = time.monotonic() + wait_s
        if self._lent:
            self._all_back.clear()
            try:
                async with asyncio.timeout(wait_s):
                    await self._all_back.wait()
            except TimeoutError:
                _log.warning(
                    "%d connections to PostgreSQL were in use when they were closed.",
                    len(self._lent),
                )
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        leaving = [*self._idle[0], *self._idle[1], *self._lent]
        self._idle[0].clear()
        self._idle[1].clear()
        self._lent.clear()
        for pooled in leaving:
            try:
                await pooled.raw.close(timeout=max(until - time.monotonic(), 0.05))
            except DRIVER_ERRORS:
                pooled.raw.terminate()
        self._open -= len(leaving)

    async def _wait(self, serializable: bool | None, deadline: float | None) -> Pooled:
        if self._closed:
            raise self._closed_error()
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), serializable)
        self._waiting.append(waiter)
        self._grow()
        # Nobody else waits where one is idle: lent until there is one of this isolation.
        other = self._idle[0] or self._idle[1]
        if other:
            self._settle(other.pop())
        left = self.settings.wait_s if deadline is None else deadline - time.monotonic()
        # A little before the deadline, so that the caller learns why.
        timer = loop.call_later(left - min(0.1 * left, 0.2), self._too_late, waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            future = waiter.future  # it may have been lent in the very moment of the cancellation
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            raise
        finally:
            timer.cancel()

    def _idle_one(self, idle: list[Pooled]) -> Pooled | None:
        while idle:
            pooled = idle.pop()
            if pooled.epoch == self._epoch and not pooled.raw.is_closed():
                self._lent.add(pooled)
                return pooled
            self._drop(pooled)
        return None

    async def _switch(self, pooled: Pooled, serializable: bool) -> bool:
        """Change the isolation of a connection; False where it was lost over that."""
        level = "serializable" if serializable else "read committed"
        try:
            await pooled.raw.execute(f"SET default_transaction_isolation = '{level}'")
        except DRIVER_ERRORS as error:
            self.lose(pooled, error)
            return False
        except BaseException:
            pooled.raw.terminate()  # nobody knows which it has
            self.give_back(pooled)
            raise
        pooled.serializable = serializable
        return True

    def _settle(self, pooled: Pooled) -> None:
        """Lend a clean connection to the first who waits, or keep it."""
        if self._closed or pooled.epoch != self._epoch or pooled.raw.is_closed():
            self._drop(pooled)
            self._grow()
            return
        if self._anybody_waits():
            self._lent.add(pooled)
            self._next_for(pooled).future.set_result(pooled)
            return
        self._idle[pooled.serializable].append(pooled)

    def _next_for(self, pooled: Pooled) -> _Waiter:
        """The first who waits, or a later one whom it fits without a switch, a few times."""
        first = self._waiting[0]
        if first.takes(pooled) or self._let_past >= _LET_PAST:
            self._let_past = 0
            return self._waiting.popleft()
        for at, waiter in enumerate(self._waiting):
            if at > _LOOKED_THROUGH:
                break
            if not waiter.future.done() and waiter.takes(pooled):
                del self._waiting[at]
                self._let_past += 1
                return waiter
        return self._waiting.popleft()

    def _drop(self, pooled: Pooled) -> None:
        self._open -= 1
        if not pooled.raw.is_closed():
            pooled.raw.terminate()

    def _grow(self) -> None:
        """Make a connection for somebody who waits, unless there are enough under way."""
        while (
            self._waiting
            and self._open < self.settings.size
            and self._growing < (1 if self._failing else len(self._waiting))
            and not self._closed
        ):
            self._open += 1
            self._growing += 1
            self._spawn(self._connect())

    async def _connect(self) -> None:
        """Connect, and try again for as long as somebody waits."""
        made: Pooled | None = None
        wait_s = _FIRST_WAIT_S
        try:
            while made is None:
                try:
                    made = await self._connect_once()
                except Exception as error:
                    self._note_failure(error)
                    if is_unfixable(error) or not is_lost(error):
                        self._refuse_all(self._unreachable(error))
                        return
                    # One of those who try is enough while the server is away.
                    if self._growing > 1:
                        return
                    await asyncio.sleep(wait_s * (0.5 + self._random.random() / 2))
                    wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
                    if not self._anybody_waits():
                        return
        finally:
            self._growing -= 1
            if made is None:
                self._open -= 1
        self._settle(made)
        self._grow()

    async def _connect_once(self) -> Pooled:
        epoch = self._epoch
        waiter = next((w for w in self._waiting if not w.future.done()), None)
        serializable = waiter is not None and waiter.serializable is True
        raw = await asyncpg.connect(**connect_arguments(self.settings, serializable))
        self._failing = False
        self._connected += 1
        return Pooled(raw, epoch, serializable)

    def _note_failure(self, error: Exception) -> None:
        self._failed += 1
        self._last_failure = error
        if not self._failing:
            self._failing = True
            _log.error(
                "PostgreSQL could not be reached (%s: %s). It is tried again for as long as "
                "somebody waits.",
                type(error).__name__,
                str(error).strip(),
            )

    def _anybody_waits(self) -> bool:
        while self._waiting and self._waiting[0].future.done():
            self._waiting.popleft()
        return bool(self._waiting)

    async def _recover(self, pooled: Pooled) -> None:
        """Wait for a cancelled statement to end and roll back; close what takes long."""
        raw = pooled.raw
        try:
            async with asyncio.timeout(_RECOVER_S):
                protocol: Any = raw._protocol
                if protocol._is_cancelling():
                    await protocol._wait_for_cancellation()
                if raw.is_in_transaction():
                    await raw.execute("ROLLBACK")
        except DRIVER_ERRORS as error:
            _log.info("A connection was closed, as it was not clean in time: %r", error)
            raw.terminate()
        except BaseException:
            raw.terminate()
            raise
        finally:
            self._take_off(pooled)
            if not raw.is_closed() and not _is_clean(raw):
                raw.terminate()
            self._settle(pooled)

    def _take_off(self, pooled: Pooled) -> None:
        self._lent.discard(pooled)
        if not self._lent:
            self._all_back.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _too_late(self, waiter: _Waiter) -> None:
        if waiter.future.done():
            return
        if self._failing and self._last_failure is not None:
            waiter.future.set_exception(self._unreachable(self._last_failure))
        else:
            waiter.future.set_exception(
                StoreUnavailableError(
                    f"All {self.settings.size} connections to PostgreSQL were in use until the "
                    "time was up. Nothing was done. Send it again later; if it goes on, raise the "
                    "pool's size, or look for slow statements in pg_stat_activity."
                )
            )
        self._anybody_waits()

    def _refuse_all(self, error: StoreUnavailableError) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.future.done():
                waiter.future.set_exception(error)

    def _closed_error(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            "The connections to PostgreSQL are closed. Nothing was done. The product stops: send "
            "it again when it has started."
        )

    def _unreachable(self, error: BaseException) -> StoreUnavailableError:
        text = str(error).strip().rstrip(".")
        failure = StoreUnavailableError(
            f"PostgreSQL could not be reached: {type(error).__name__}: {text}. Nothing was done. "
            "See whether the server runs and the topology's database URL is right, then send it "
            "again."
        )
        failure.__cause__ = error
        return failure


def _is_clean(raw: asyncpg.Connection[Any]) -> bool:
    protocol: Any = raw._protocol
    return (
        protocol.is_connected()
        and not protocol.is_in_transaction()
        and not protocol._is_cancelling()
    )
