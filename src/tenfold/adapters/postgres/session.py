"""How the platform's own records are read and written in a module's schema."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tenfold.adapters.postgres.errors import is_conflict, is_failure, is_lost, unavailable
from tenfold.adapters.postgres.pool import Pool, Pooled
from tenfold.contracts.errors import Outcome, StoreUnavailableError

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PoolSession", "Session", "quoted"]

_T = TypeVar("_T")
_LONGEST_WAIT_S = 0.5


def quoted(name: str) -> str:
    """A name as SQL writes it, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


class Session(Protocol):
    """The platform's own work on one module's schema, beside the handlers' units of work."""

    @property
    def schema(self) -> str:
        """The module's schema, quoted, to stand before the name of a table."""
        ...

    async def write(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run in a transaction of its own, read committed; returns after the commit.

        Where the connection was lost before the commit was sent, the work is run
        again; it must therefore change nothing but the database.

        Raises: what `work` raised, after a rollback; StoreUnavailableError
        (NOT_DONE, or MAYBE_DONE where the connection was lost at the commit).
        """
        ...

    async def read(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run on a connection to the primary; each statement sees the newest committed state."""
        ...


class PoolSession:
    """The platform's own work on the connections of a pool. Implements `Session`.

    Work that lost against another transaction, or whose connection was lost
    before its commit was sent, is run again until `wait_s` of the pool is up.
    """

    def __init__(self, pool: Pool, module: str) -> None:
        self._pool = pool
        self._module = module
        self._schema = quoted(module)
        self._begin = "BEGIN ISOLATION LEVEL READ COMMITTED" + pool.begin_suffix
        self._random = random.Random()

    @property
    def schema(self) -> str:
        """The module's schema, quoted. See `Session.schema`."""
        return self._schema

    async def write(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run in a transaction of its own, read committed. See `Session.write`."""
        return await self._again(work, transaction=True)

    async def read(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        """Run on a connection to the primary. See `Session.read`."""
        return await self._again(work, transaction=self._pool.transaction_pooler)

    async def _again(self, work: Callable[[Connection], Awaitable[_T]], *, transaction: bool) -> _T:
        deadline = time.monotonic() + self._pool.settings.wait_s
        wait_s = 0.005
        while True:
            pooled = await self._pool.take(None if transaction else False, deadline)
            try:
                return await self._once(pooled, work, transaction=transaction)
            except _AgainError as again:
                if time.monotonic() + wait_s >= deadline:
                    what = f"The database of module {self._module!r}"
                    raise unavailable(what, again.cause) from again.cause
            await asyncio.sleep(wait_s * self._random.random())
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _once(
        self, pooled: Pooled, work: Callable[[Connection], Awaitable[_T]], *, transaction: bool
    ) -> _T:
        raw: Any = pooled.raw
        committing = False
        try:
            if not transaction:
                return await work(raw)
            await raw.execute(self._begin)
            result = await work(raw)
            committing = True
            ended = await raw.execute("COMMIT")
            committing = False
            if ended != "COMMIT":
                raise StoreUnavailableError(
                    f"A transaction of the platform on module {self._module!r} had failed when it "
                    "was to be committed, since an error in it was caught. Nothing was committed."
                )
            return result
        except Exception as error:
            judged = self._judge(pooled, error, committing)
            if not raw.is_closed() and raw.is_in_transaction():
                await self._pool.roll_back(pooled)
            if judged is error:
                raise
            raise judged from error
        finally:
            self._pool.give_back(pooled)

    def _judge(self, pooled: Pooled, error: Exception, committing: bool) -> Exception:
        """What to raise for an error of the work: itself, or the wish to begin again."""
        if is_conflict(error):
            return _AgainError(error)
        if not is_lost(error) and not pooled.raw.is_closed():
            what = f"The database of module {self._module!r}"
            return unavailable(what, error) if is_failure(error) else error
        self._pool.lose(pooled, error)
        if committing:
            return unavailable(
                f"The database of module {self._module!r}", error, outcome=Outcome.MAYBE_DONE
            )
        return _AgainError(error)


class _AgainError(Exception):
    """The work changed nothing and may be run again."""

    def __init__(self, cause: Exception) -> None:
        super().__init__()
        self.cause = cause
