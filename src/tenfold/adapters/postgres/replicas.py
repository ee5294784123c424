"""Read replicas: who may answer a query, so that nobody misses what was seen before.

    caller's token ──> needed ──> a replica that has replayed it ──> rows ──> seen ──> token
                                   │ none within the bound
                                   └──> the primary

A replica is left out while it cannot be reached, lags beyond a bound, or was
promoted, and is taken in again after it has been well for some looks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from tenfold.adapters.postgres.errors import DRIVER_ERRORS, is_lost
from tenfold.adapters.postgres.pool import Pool, Pooled
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Struct
from tenfold.ports.replicas import Freshness
from tenfold.ports.unit import Message

__all__ = ["PostgresReplicas", "ReplicaLimits", "ReplicaState", "decide_lag_s", "decide_seen"]

_log = logging.getLogger("tenfold.replicas")
_WELL_LOOKS: Final = 2
"""Looks that a replica must be well for before it is taken in again."""
_ASK_AGAIN_S: Final = 0.004
_AWAY_S: Final = 1.0
"""Seconds for which a server that cannot be reached is waited for, to ask for its place."""
_SAMPLES: Final = 4096

WRITTEN = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint, 0::bigint, false, 0::float8
"""
# What was replayed is asked before what was received: where the two are equal, no record can
# have been half replayed in between.
REPLAYED = """
SELECT r.replayed, coalesce(pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0'), 0)::bigint,
       pg_is_in_recovery(), extract(epoch FROM pg_postmaster_start_time())::float8
FROM (SELECT coalesce(pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0'), 0)::bigint AS replayed
      OFFSET 0) AS r
"""


TIMELINE = "SELECT pg_walfile_name(pg_current_wal_insert_lsn())::text"


class ReplicaLimits(Struct):
    """`wait_s` bounds a query's wait for a replica; `max_lag_s` is when one is left out.

    `look_s` is the pause between two looks at each replica, and `answer_s` what an answer
    to one may take.
    """

    wait_s: float = 0.1
    max_lag_s: float = 10.0
    look_s: float = 0.25
    answer_s: float = 1.5


class ReplicaState(Struct):
    """One replica as it was seen last."""

    name: str
    well: bool
    replayed: int
    lag_s: float


class _Place(Struct):
    replayed: int
    received: int
    recovering: bool
    started: float


def decide_seen(replayed: int, received: int) -> int:
    """A place that holds all that a read can have seen which ended before this was asked.

    A record becomes visible just before it counts as replayed. Where more was
    received than replayed, a record may be in between, so that whoever answers
    next must have begun on the one after it.
    """
    return replayed if received == replayed else replayed + 1


def decide_lag_s(samples: Sequence[tuple[float, int]], replayed: int, now_s: float) -> float:
    """Since when a replica lacks what the primary had written, in seconds; 0 for nothing.

    Args:
        samples: when the primary's log was seen to end where, in order.
    """
    for at_s, place in samples:
        if place > replayed:
            return max(now_s - at_s, 0.0)
    return 0.0


class _Asker:
    """Asks one server for its place. Those who ask while an answer is on its way share the next."""

    def __init__(self, pool: Pool, statement: str) -> None:
        self._pool = pool
        self._statement = statement
        self._next: asyncio.Future[_Place] | None = None
        self._task: asyncio.Task[None] | None = None

    async def ask(self) -> _Place:
        """Where it is, at some moment after this was called. Raises: StoreUnavailableError."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._answer())
        return await asyncio.shield(self._next)

    async def _answer(self) -> None:
        while self._next is not None:
            asked, self._next = self._next, None
            try:
                place = await self._look()
            except Exception as error:  # whatever it is: nobody may wait for ever
                asked.set_exception(_unreachable(error))
                asked.exception()  # whoever asked may be gone
            except BaseException:
                asked.cancel()
                raise
            else:
                asked.set_result(place)

    async def _look(self) -> _Place:
        pooled = await self._take()
        try:
            row = await _fetch_row(self._pool, pooled, self._statement)
        except DRIVER_ERRORS as error:
            if is_lost(error):
                self._pool.lose(pooled, error)
            raise _unreachable(error) from error
        finally:
            self._pool.give_back(pooled)
        return _Place(replayed=row[0], received=row[1], recovering=row[2], started=row[3])

    async def _take(self) -> Pooled:
        try:
            return await self._pool.take(deadline=time.monotonic() + _AWAY_S)
        except StoreUnavailableError:
            if not self._pool.healthy:
                raise
        return await self._pool.take()  # busy, not away

    async def close(self) -> None:
        """End what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class _Replica:
    """One replica, and what is known of it.

    What it had replayed once it may lack again: after a crash it begins at an earlier
    place, and answers before it has come to the last.
    """

    def __init__(self, name: str, pool: Pool) -> None:
        self.name = name
        self.pool = pool
        self.asker = _Asker(pool, REPLAYED)
        self.replayed = 0
        self.started = 0.0
        self.lag_s = 0.0
        self.well = False
        self.looks = _WELL_LOOKS - 1
        self.told = True

    async def ask(self, within_s: float) -> _Place:
        """Where it is. Raises: StoreUnavailableError, also where it does not answer in time."""
        try:
            async with asyncio.timeout(within_s):
                place = await self.asker.ask()
        except TimeoutError as error:
            raise StoreUnavailableError(
                f"The read replica {self.name} did not say within {within_s:.1f} s how far it "
                "has come. Nothing was done by that. Look at its log, and whether it stands still."
            ) from error
        if place.started != self.started:
            if self.started:
                self.leave_out("it was started again")
            self.started = place.started
            self.replayed = 0
        # A crash of one of its processes sets it back too, and is no other start.
        self.replayed = place.replayed
        return place

    def leave_out(self, why: str) -> None:
        self.looks = 0
        if self.well or self.told:
            self.told = False
            _log.warning(
                "The read replica %s is left out: %s. Queries go to the others, or to the primary.",
                self.name,
                why,
            )
        self.well = False

    def seen_well(self) -> None:
        self.looks += 1
        if not self.well and self.looks >= _WELL_LOOKS:
            self.well = True
            self.told = True
            _log.info("The read replica %s takes part.", self.name)


class PostgresReplicas:
    """A primary and its replicas. Implements `Replicas`, and routes queries among their pools."""

    def __init__(
        self,
        primary: Pool,
        replicas: Sequence[tuple[str, Pool]],
        limits: ReplicaLimits,
        *,
        server: str,
    ) -> None:
        """`replicas` are pools by the names that people know them by."""
        self._primary = primary
        self._asker = _Asker(primary, WRITTEN)
        self._replicas = [_Replica(name, pool) for name, pool in replicas]
        self._limits = limits
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._turn = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._server = server
        self._timeline = 0
        self._changes = 0
        self._known_changes = 0
        self._floor = 0

    @property
    def server(self) -> str:
        """Which database. See `Replicas.server`."""
        return self._server

    @property
    def timeline(self) -> int:
        """The history that the primary writes now. See `Replicas.timeline`."""
        return self._timeline

    def states(self) -> list[ReplicaState]:
        """Every replica as it was seen last."""
        return [
            ReplicaState(name=r.name, well=r.well, replayed=r.replayed, lag_s=r.lag_s)
            for r in self._replicas
        ]

    async def start(self) -> None:
        """Look at the primary, then at the replicas again and again."""
        await self._look_at_primary()
        await asyncio.gather(*(self._look_at(replica) for replica in self._replicas))
        self._tasks = [asyncio.create_task(self._watch_primary(), name="replicas: primary")]
        self._tasks += [
            asyncio.create_task(self._watch(replica), name=f"replicas: {replica.name}")
            for replica in self._replicas
        ]

    async def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for asker in (self._asker, *(replica.asker for replica in self._replicas)):
            await asker.close()

    async def written(self) -> int:
        """A place that holds every commit answered so far. See `Replicas.written`."""
        return (await self._asker.ask()).replayed

    async def seen(self, freshness: Freshness) -> int:
        """A place that holds all that a message's reads can have seen. See `Replicas.seen`."""
        places = [freshness.needed or 0]
        for touched in freshness.touched:
            if isinstance(touched, _Replica):
                places.append(await self._shown(touched))
            else:
                places.append(await self.written())
        return max(places)

    async def _shown(self, replica: _Replica) -> int:
        """A place that holds all that a replica can have shown; the primary's, where it is gone."""
        if replica.well:
            try:
                place = await replica.ask(self._limits.answer_s)
            except StoreUnavailableError as error:
                self._give_up(replica, str(error))
            else:
                return decide_seen(place.replayed, place.received)
        return await self.written()

    def require_now(self) -> None:
        """Read from replicas only once they have all that is committed at this moment.

        For what no token tells: which tables are to be read has changed.
        """
        self._changes += 1

    async def pool_for(self, message: Message) -> Pool:
        """Whose answer a read of a message may be; it counts as touched from now on.

        The primary for whatever decides, and where no replica has reached what
        the caller has seen within the bound.
        """
        if message.kind is not Kind.QUERY or message.decision or message.unit is not None:
            return self._primary
        freshness: Freshness | None = message.freshness
        chosen = await self._choose(freshness, message.deadline)
        if freshness is not None:
            freshness.touched.add(self._primary if chosen is None else chosen)
        return self._primary if chosen is None else chosen.pool

    def failed(self, pool: Pool, error: BaseException) -> bool:
        """Note that a read failed. True where a replica was asked: the primary may answer."""
        for replica in self._replicas:
            if replica.pool is pool:
                # A conflict with what is being replayed is no sign of being unwell, nor is a
                # pool that is all in use, or a question that no server can answer.
                if is_lost(error) or not pool.healthy:
                    replica.leave_out(f"{type(error).__name__}: {error}")
                return True
        return False

    async def _choose(self, freshness: Freshness | None, deadline: float) -> _Replica | None:
        if freshness is not None and freshness.needed is None:
            return None
        well = [replica for replica in self._replicas if replica.well]
        if not well or self._known_changes != self._changes:
            return None
        needed = 0 if freshness is None or freshness.needed is None else freshness.needed
        needed = max(needed, self._floor)
        if freshness is not None:
            # One message stays with whoever has answered it, so that its reads fit together.
            for replica in well:
                if replica in freshness.touched and replica.replayed >= needed:
                    return replica
        reached = [replica for replica in well if replica.replayed >= needed]
        if reached:
            self._turn += 1
            return reached[self._turn % len(reached)]
        best = max(well, key=lambda r: r.replayed)
        # One that is further behind than a wait can make up for is not waited for.
        if best.lag_s > self._limits.wait_s + 2 * self._limits.look_s:
            return None
        return await self._wait_for(best, needed, deadline)

    async def _wait_for(self, replica: _Replica, needed: int, deadline: float) -> _Replica | None:
        until = min(time.monotonic() + self._limits.wait_s, deadline)
        try:
            while (await replica.ask(max(until - time.monotonic(), 0.0))).replayed < needed:
                if time.monotonic() + _ASK_AGAIN_S >= until:
                    return None
                await asyncio.sleep(_ASK_AGAIN_S)
        except StoreUnavailableError:
            return None  # whether it is unwell is seen by those who look at it
        return replica

    def _give_up(self, replica: _Replica, why: str) -> None:
        """Leave out one that does not answer, and let go whoever waits for an answer of it."""
        replica.leave_out(f"it does not answer ({why})")
        replica.pool.abandon()

    async def _watch_primary(self) -> None:
        while True:
            await asyncio.sleep(self._limits.look_s)
            try:
                await self._look_at_primary()
            except StoreUnavailableError:
                pass  # the pool has said so, and goes on trying

    async def _look_at_primary(self) -> None:
        changes = self._changes
        place = await self._asker.ask()
        if self._known_changes != changes:
            self._known_changes, self._floor = changes, place.replayed
        if not self._samples or place.replayed > self._samples[-1][1]:
            self._samples.append((time.monotonic(), place.replayed))
        timeline = await self._read_timeline()
        if timeline != self._timeline:
            # Places of two timelines do not compare: what was known is asked for anew.
            if self._timeline:
                self._samples.clear()
                self.require_now()
            self._timeline = timeline

    async def _read_timeline(self) -> int:
        pooled = await self._primary.take()
        try:
            row = await _fetch_row(self._primary, pooled, TIMELINE)
        except DRIVER_ERRORS as error:
            if is_lost(error):
                self._primary.lose(pooled, error)
            raise _unreachable(error) from error
        finally:
            self._primary.give_back(pooled)
        return int(row[0][:8], 16)

    async def _watch(self, replica: _Replica) -> None:
        while True:
            await asyncio.sleep(self._limits.look_s)
            await self._look_at(replica)

    async def _look_at(self, replica: _Replica) -> None:
        try:
            place = await replica.ask(self._limits.answer_s)
        except StoreUnavailableError as error:
            self._give_up(replica, str(error))
            return
        replica.lag_s = decide_lag_s(self._samples, replica.replayed, time.monotonic())
        if not place.recovering:
            replica.leave_out("it is no replica any more, since it was promoted")
        elif replica.lag_s > self._limits.max_lag_s:
            replica.leave_out(f"it lags {replica.lag_s:.1f} s behind")
        else:
            replica.seen_well()


async def _fetch_row(pool: Pool, pooled: Pooled, sql: str) -> Any:
    """One row; in a transaction where a pooler may change the connection between two messages."""
    raw: Any = pooled.raw
    if not pool.transaction_pooler:
        return await raw.fetchrow(sql)
    await raw.execute("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY" + pool.begin_suffix)
    row = await raw.fetchrow(sql)
    await raw.execute("COMMIT")
    return row


def _unreachable(error: BaseException) -> StoreUnavailableError:
    if isinstance(error, StoreUnavailableError):
        return error
    return StoreUnavailableError(
        f"A database server could not be asked how far its log has come: {error}. Nothing was "
        "done by that. Look at its log, and whether it can be reached from here."
    )
