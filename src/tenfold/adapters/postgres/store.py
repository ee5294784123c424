"""One module's schema on PostgreSQL: its units of work, each one transaction, serializable."""

from __future__ import annotations

import asyncio
from asyncio import events as asyncio_events
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextvars import Context
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from tenfold.adapters.postgres import records
from tenfold.adapters.postgres.errors import (
    is_conflict,
    is_failure,
    is_lost,
    is_unsent,
    unavailable,
)
from tenfold.adapters.postgres.folding import Folding, Step
from tenfold.adapters.postgres.inside import Call, OpenUnit, refusal_of
from tenfold.adapters.postgres.planner import Planner
from tenfold.adapters.postgres.pool import Pool, Pooled
from tenfold.adapters.postgres.precedence import Precedence
from tenfold.adapters.postgres.running import fetch
from tenfold.adapters.postgres.session import PoolSession
from tenfold.contracts.errors import (
    DeadlineExceededError,
    Outcome,
    StoreUnavailableError,
    TenfoldError,
)
from tenfold.ports.clock import Clock, SystemClock
from tenfold.ports.news import CommitNews
from tenfold.ports.stepping import close_handler, refuse_await
from tenfold.ports.unit import GuardLoop, Unit, UnitLostError, UnitResult

if TYPE_CHECKING:
    from sqlalchemy import Table

__all__ = ["PostgresStore"]

_BEGIN = "BEGIN ISOLATION LEVEL SERIALIZABLE"
_FAILED = "TF001"
_MOST_CAREFUL = 1_000


class PostgresStore:
    """A module's schema. Implements `Units`.

    Guarantees: units of work are serializable; what was answered is committed as
    durably as the server is set to; a refusal, fault, timeout or cancellation
    leaves nothing. Where all that a unit does was handed over, it is one
    statement, which commits by itself.
    """

    def __init__(
        self,
        pool: Pool,
        module: str,
        planner: Planner,
        clock: Clock,
        *,
        tables: Mapping[str, Table],
        on_commit: Callable[[CommitNews], None] = lambda _: None,
    ) -> None:
        self.pool = pool
        self.module = module
        self.planner = planner
        self.session = PoolSession(pool, module)
        """For the platform's own work beside the units of work."""
        self.generations: Mapping[str, int] = {}
        """Which generation of each projection answers; replaced as a whole at a swap."""
        self.refresh_generations: Callable[[], Awaitable[None]] = _nothing
        """Reads `generations` anew: another process may have swapped one in."""
        self._tables = tables
        self._clock = None if isinstance(clock, SystemClock) else clock
        self._on_commit = on_commit
        self._guard: Any = GuardLoop(module)
        self._folding = Folding(self.session.schema, planner, 0)
        self._begin = _BEGIN + pool.begin_suffix
        self._head = 0
        self._precedence = Precedence(self.session.schema, pool.settings.lock_timeout_s)
        # Messages whose handler caught an error of a statement, which has ended the transaction:
        # they run again with a savepoint before each statement, so that they can go on.
        self._careful: OrderedDict[str, None] = OrderedDict()

    async def start(self) -> None:
        """Learn how the log is numbered and how far it goes. The tables must be there."""
        schema = self.session.schema

        async def look(connection: asyncpg.Connection[Any]) -> tuple[int, int]:
            offset = await connection.fetchval(records.XID_OFFSET.format(s=schema))
            return int(offset or 0), await connection.fetchval(records.HEAD.format(s=schema))

        offset, self._head = await self.session.read(look)
        self._folding = Folding(schema, self.planner, offset)

    @property
    def healthy(self) -> bool:
        """Whether the database could be reached when that was last tried."""
        return self.pool.healthy

    def now(self) -> datetime | None:
        """The moment for the platform's records; None where the server's clock decides."""
        return None if self._clock is None else self._clock.now()

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        """Carry one unit of work. See `Units.run`."""
        try:
            if handler is None:
                return await self._end_gathered(unit, value)
            return await self._carry(unit, handler, context)
        except (UnitLostError, StoreUnavailableError, DeadlineExceededError):
            raise  # the path begins it again, or nobody waits any more
        except asyncpg.UndefinedTableError as error:
            await self._look_for_swap(unit, error)
            raise
        except Exception as error:
            known = await self._look_up(unit, error)
            if known is None:
                raise
            return known

    # --- All gathered: one statement, where it folds into one ------------------------------------

    async def _end_gathered(self, unit: Unit, value: Any) -> UnitResult:
        steps = self._steps(unit, value, self._generations(unit))
        folded = len(steps) == 1 and not self.pool.transaction_pooler
        folded = folded and self._precedence.lock(unit) is None
        pooled = await self.pool.take(True if folded else None, unit.deadline)
        try:
            if not folded:
                await self._open(pooled, unit)
                return await self._finish(pooled, unit, steps, value)
            position = await self._send(pooled, unit, steps[0], commits=True)
        except UnitLostError as error:
            self._lost_again(unit, error, self._folding.tables(unit.buffered))
            raise
        finally:
            self.pool.give_back(pooled)
        return self._committed(unit, position, value)

    # --- With a handler that is to be stepped ----------------------------------------------------

    async def _carry(
        self, unit: Unit, handler: Coroutine[Any, Any, Any], context: Context
    ) -> UnitResult:
        try:
            pooled = await self.pool.take(None, unit.deadline)
        except BaseException:
            close_handler(handler, context)
            raise
        opened = OpenUnit(
            self._folding,
            self._tables,
            self.module,
            unit,
            self._generations(unit),
            singly=unit.message_id in self._careful,
        )
        try:
            try:
                await self._open(pooled, unit)
                unit.session = opened
                value = await self._drive(pooled, unit, handler, context, opened)
            except BaseException:
                close_handler(handler, context)
                raise
            finally:
                unit.session = None
            if unit.broken is not None:
                raise unit.broken  # the handler caught it, and went on
            opened.wrote = True
            return await self._finish(
                pooled, unit, self._steps(unit, value, opened.generations), value
            )
        except Exception as error:
            self._lost_again(unit, error, opened.written | self._folding.tables(unit.buffered))
            await self._end_failed(pooled, unit, opened, error)
            raise
        finally:
            self.pool.give_back(pooled)

    async def _open(self, pooled: Pooled, unit: Unit) -> None:
        """Begin its transaction; ahead of the others where it has lost too often."""
        await self._execute(pooled, unit, self._begin)
        lock = self._precedence.lock(unit)
        if lock is None:
            return
        try:
            await self._execute(pooled, unit, lock)
        except StoreUnavailableError as error:
            if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                raise
            raise UnitLostError(
                f"A unit of work of {self.module!r} that lost too often could not go first: "
                "another one holds its tables. Nothing was committed, and it may be begun again."
            ) from error

    def _lost_again(self, unit: Unit, error: Exception, tables: Iterable[str]) -> None:
        # A projection's tables have other names, and its entries are worked one after another.
        if unit.projection is None and error.__cause__ and is_conflict(error.__cause__):
            self._precedence.note(unit, tables)

    async def _drive(
        self,
        pooled: Pooled,
        unit: Unit,
        handler: Coroutine[Any, Any, Any],
        context: Context,
        opened: OpenUnit,
    ) -> Any:
        """Step a handler to its end, and run what it asks for. All else is refused."""
        loop = asyncio.get_running_loop()
        careful = unit.message_id in self._careful
        failed: BaseException | None = None
        step: Callable[..., Any] = handler.send
        answer: Any = None
        while True:
            asyncio_events._set_running_loop(self._guard)
            opened.stepping = True
            try:
                asked = context.run(step, answer)
            except StopIteration as stop:
                if failed is not None:
                    raise self._run_carefully(unit, failed) from failed
                return stop.value
            finally:
                opened.stepping = False
                asyncio_events._set_running_loop(loop)
            if type(asked) is not Call:
                raise refuse_await(self.module, asked, handler, context)
            if failed is not None:
                raise self._run_carefully(unit, failed) from failed
            try:
                answer = await self._answer(pooled, unit, asked, careful=careful)
                step = handler.send
            except asyncpg.PostgresError as error:
                answer, step = error, handler.throw
                if not careful:
                    failed = error
            except (asyncpg.InterfaceError, ValueError, TypeError) as error:
                # A value that does not fit, of which the server was told nothing.
                answer, step = error, handler.throw

    async def _answer(self, pooled: Pooled, unit: Unit, call: Call, *, careful: bool) -> Any:
        """Run one statement of a handler's."""
        raw: Any = pooled.raw
        try:
            if careful:
                await raw.execute("SAVEPOINT tenfold")
            try:
                if call.many:
                    rows = await raw.fetchmany(call.sql, call.values)
                    answer: Any = len(rows)
                elif call.rows:
                    answer = await fetch(raw, call.sql, call.values)
                else:
                    answer = _changed(await raw.execute(call.sql, *call.values))
            except asyncpg.PostgresError as error:
                if careful and not is_conflict(error) and not is_lost(error):
                    await raw.execute("ROLLBACK TO SAVEPOINT tenfold")
                raise
            if careful:
                await raw.execute("RELEASE SAVEPOINT tenfold")
        except Exception as error:
            judged = await self._judge(pooled, unit, error, committing=False)
            if judged is error:
                raise
            raise judged from error
        return answer

    def _run_carefully(self, unit: Unit, error: BaseException) -> UnitLostError:
        """A failed statement has ended the transaction, and the handler caught that and went on."""
        self._careful[unit.message_id] = None
        if len(self._careful) > _MOST_CAREFUL:
            self._careful.popitem(last=False)
        return UnitLostError(
            f"A handler of {self.module!r} went on after {type(error).__name__}. Nothing was "
            "committed, and it is begun again with a savepoint before each statement."
        )

    # --- The end ---------------------------------------------------------------------------------

    def _steps(self, unit: Unit, value: Any, generations: Mapping[str, int]) -> list[Step]:
        return self._folding.steps(
            unit,
            generations,
            reply=None if unit.reply_key is None else unit.encode_reply(value),
            head=self._head,
            now=self.now(),
        )

    async def _finish(
        self, pooled: Pooled, unit: Unit, steps: list[Step], value: Any
    ) -> UnitResult:
        """Send what was gathered, then commit, in the transaction that is open."""
        position = 0
        for step in steps:
            position = await self._send(pooled, unit, step, commits=False)
        sealed, unit.sealed = unit.sealed, True
        try:
            ended = await pooled.raw.execute("COMMIT")
        except Exception as error:
            judged = await self._judge(pooled, unit, error, committing=True)
            if not isinstance(judged, TenfoldError) or judged.outcome is Outcome.NOT_DONE:
                unit.sealed = sealed
            if judged is error:
                raise
            raise judged from error
        if ended != "COMMIT":
            unit.sealed = sealed
            raise UnitLostError(
                f"A unit of work of {self.module!r} had failed before its commit. Nothing was "
                "committed, and it may be begun again."
            )
        return self._committed(unit, position, value)

    async def _send(self, pooled: Pooled, unit: Unit, step: Step, *, commits: bool) -> int:
        """Send one step; returns the position where it answers with one."""
        raw: Any = pooled.raw
        sealed = unit.sealed
        if commits:
            unit.sealed = True
        try:
            if step.many:
                await raw.executemany(step.text, step.values)
                return 0
            rows = await fetch(raw, step.text, step.values)
        except Exception as error:
            judged = await self._judge(pooled, unit, error, committing=commits, step=step)
            if not isinstance(judged, TenfoldError) or judged.outcome is Outcome.NOT_DONE:
                unit.sealed = sealed
            if judged is error:
                raise
            raise judged from error
        return rows[0][0] if rows else 0

    async def _execute(self, pooled: Pooled, unit: Unit, text: str) -> None:
        try:
            await pooled.raw.execute(text)
        except Exception as error:
            judged = await self._judge(pooled, unit, error, committing=False)
            if judged is error:
                raise
            raise judged from error

    def _committed(self, unit: Unit, position: int, value: Any) -> UnitResult:
        self._precedence.forget(unit)
        if self._careful:
            self._careful.pop(unit.message_id, None)
        if position > self._head:
            self._head = position
        if unit.events or unit.entries:
            news = CommitNews()
            news.head = position
            news.entries = bool(unit.entries)
            self._on_commit(news)
        return UnitResult(value=value, position=position or self._head)

    async def _end_failed(
        self, pooled: Pooled, unit: Unit, opened: OpenUnit, error: Exception
    ) -> None:
        """End the transaction of a handler that failed.

        What it decided on reads alone holds only if these fit into an order of all
        transactions, which the commit tells. All else is rolled back.

        Raises: UnitLostError where they do not.
        """
        raw: Any = pooled.raw
        if raw.is_closed() or not raw.is_in_transaction() or raw._protocol._is_cancelling():
            return
        if opened.wrote or isinstance(error, UnitLostError):
            await self.pool.roll_back(pooled)
            return
        try:
            await raw.execute("COMMIT")
        except Exception as failed:
            judged = await self._judge(pooled, unit, failed, committing=False)
            if isinstance(judged, UnitLostError):
                raise judged from failed

    async def _judge(
        self,
        pooled: Pooled,
        unit: Unit,
        error: Exception,
        *,
        committing: bool,
        step: Step | None = None,
    ) -> Exception:
        """What an error of a statement or commit means for the unit of work."""
        if is_conflict(error):
            return UnitLostError(
                f"A unit of work of {self.module!r} lost against another one. Nothing was "
                "committed, and it may be begun again."
            )
        if is_lost(error) or pooled.raw.is_closed():
            self.pool.lose(pooled, error)
            return self._lost(unit, error, committing=committing)
        if getattr(error, "sqlstate", "") == _FAILED and str(error) in records.GONE:
            return records.GONE[str(error)]()
        if step is not None and isinstance(error, asyncpg.IntegrityConstraintViolationError):
            return refusal_of(error, step, self._tables) or error
        if is_failure(error):
            return unavailable(f"The database of module {self.module!r}", error)
        return error

    def _lost(self, unit: Unit, error: Exception, *, committing: bool) -> TenfoldError:
        unsent = is_unsent(error) or isinstance(error, asyncpg.ReadOnlySQLTransactionError)
        if not committing or unsent:
            return UnitLostError(
                f"The connection of a unit of work of {self.module!r} was lost before its commit "
                "was sent. Nothing was committed, and it may be begun again."
            )
        if unit.inbox is None and unit.reply_key is None:
            return unavailable(
                f"The database of module {self.module!r}", error, outcome=Outcome.MAYBE_DONE
            )
        # It may be committed; begun again it finds its key, and answers as the first time.
        return UnitLostError(
            f"The connection of a unit of work of {self.module!r} was lost during its commit, so "
            "it may be done. Ask for its result, or send it again with the same Idempotency-Key.",
            outcome=Outcome.MAYBE_DONE,
        )

    # --- What was there already ------------------------------------------------------------------

    async def _look_for_swap(self, unit: Unit, error: Exception) -> None:
        """Raise UnitLostError where a projection's tables were replaced meanwhile."""
        before = self._generations(unit)
        await self.refresh_generations()
        if self._generations(unit) != before:
            raise UnitLostError(
                f"A projection's tables in {self.module!r} were replaced during a unit of work. "
                "Nothing was committed, and it may be begun again."
            ) from error

    async def _look_up(self, unit: Unit, error: Exception) -> UnitResult | None:
        """What the unit's keys say: its message had its effect or its answer before.

        A unit that runs a second time sees what the first did, and may fail for
        it in any way. So whatever failed, the keys are asked.

        Raises: UnitLostError where a reply that has expired was in the way.
        """
        if unit.inbox is None and unit.reply_key is None:
            return None
        schema, now, key = self.session.schema, self.now(), unit.reply_key
        if unit.inbox is not None:
            inbox = (unit.inbox.message_id, unit.inbox.handler, unit.inbox.generation)
            text = records.INBOX_HAS.format(s=schema)
            if await self.session.read(lambda c: c.fetchval(text, *inbox)):
                return UnitResult(value=None, position=self._head, duplicate=True)
        if key is None:
            return None
        find = records.FIND_REPLY.format(s=schema)
        row = await self.session.read(lambda c: c.fetchrow(find, key.scope, key.key, now))
        stored = records.stored_reply(row)
        if stored is not None:
            return UnitResult(value=None, position=stored.position, replay=stored)
        if _constraint(error) != records.REPLIES_KEY:
            return None
        forget = records.FORGET_EXPIRED_REPLY.format(s=schema)
        await self.session.write(lambda c: c.execute(forget, key.scope, key.key, now))
        raise UnitLostError(
            "A reply that has expired gave way to this unit of work. Nothing was committed, and "
            "it may be begun again."
        ) from error

    def _generations(self, unit: Unit) -> Mapping[str, int]:
        if unit.projection is None:
            return self.generations
        return {**self.generations, unit.projection[0]: unit.projection[1]}


async def _nothing() -> None:
    return None


def _changed(status: str) -> int:
    """How many rows a statement changed, by what PostgreSQL says of it: `INSERT 0 3`."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


def _constraint(error: BaseException) -> str:
    return str(getattr(error, "constraint_name", None) or "")
