"""A module's queue in its schema on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.claims import TAKE_TURN, read_turn, turn_values, wake_lanes
from tenfold.adapters.postgres.session import Session
from tenfold.contracts.errors import Outcome, StoreUnavailableError
from tenfold.ports.clock import Clock, SystemClock
from tenfold.ports.records import (
    BACKLOG_LIMIT,
    Backlog,
    Cycle,
    Delivery,
    EntryView,
    QueueEntry,
    SubscriptionKey,
    Turn,
)

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["INSERT_ENTRIES", "PostgresQueue", "entry_values"]

INSERT_ENTRIES: Final = """
INSERT INTO {s}.tenfold_queue
    (waits, run_at, priority, lane, handler, generation, tenant, message_id, unique_key, source,
     source_seq, body)
SELECT CASE WHEN e.run_at > n.now THEN 2 ELSE 1 END, coalesce(e.run_at, n.now), e.priority, e.lane,
       e.handler, e.generation, e.tenant, e.message_id, e.unique_key, e.source, e.source_seq,
       e.body
FROM (SELECT coalesce($1::timestamptz, clock_timestamp()) AS now) AS n,
    unnest($2::timestamptz[], $3::integer[], $4::text[], $5::text[], $6::integer[], $7::text[],
           $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bytea[])
    WITH ORDINALITY AS e (run_at, priority, lane, handler, generation, tenant, message_id,
                          unique_key, source, source_seq, body, nth)
ORDER BY e.nth
ON CONFLICT (handler, tenant, unique_key) WHERE unique_key IS NOT NULL AND waits > 0 DO NOTHING
"""
"""Adds entries, in their order. $1 is the present moment, or NULL for the store's own."""
_POSITIONS: Final = "SELECT handler, generation, source, seq FROM {s}.tenfold_positions"
# Two relays that deliver from one source take turns at its rows, in one order, so that neither
# waits for the other; what is not there yet is made first, as it cannot be locked otherwise.
_BEGIN_POSITIONS: Final = """
INSERT INTO {s}.tenfold_positions (handler, generation, source, seq)
SELECT k.handler, k.generation, k.source, 0
FROM unnest($1::text[], $2::integer[], $3::text[]) AS k (handler, generation, source)
ORDER BY k.handler, k.generation, k.source
ON CONFLICT DO NOTHING
"""
_LOCK_POSITIONS: Final = """
SELECT p.handler, p.generation, p.source, p.seq FROM {s}.tenfold_positions AS p
WHERE (p.handler, p.generation, p.source) IN (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::text[])
)
ORDER BY p.handler, p.generation, p.source FOR UPDATE
"""
_MOVE_POSITIONS: Final = """
UPDATE {s}.tenfold_positions AS p SET seq = k.seq
FROM unnest($1::text[], $2::integer[], $3::text[], $4::bigint[])
    AS k (handler, generation, source, seq)
WHERE p.handler = k.handler AND p.generation = k.generation AND p.source = k.source
  AND p.seq < k.seq
"""
_NEXT_DUE: Final = "SELECT {s}.tenfold_next_due_1($1)"
_RELEASE: Final = "SELECT {s}.tenfold_release_1()"
_PENDING: Final = """
SELECT EXISTS (
    SELECT FROM {s}.tenfold_queue
    WHERE handler = $1 AND generation = $2 AND source_seq IS NOT NULL AND source_seq <= $3
      AND (waits > 0 OR holds)
)
"""
# The last condition is what the index asks for; it holds of every projection's handler.
_PENDING_OF_PROJECTION: Final = """
SELECT EXISTS (
    SELECT FROM {s}.tenfold_queue
    WHERE handler = $1 AND generation = $2 AND source_seq IS NOT NULL AND source_seq <= $3
      AND (waits > 0 OR holds) AND strpos(handler, '.') > 0
)
"""
# People's view of an entry: claimed ones are running, whatever their row says.
_VIEW: Final = """
SELECT q.id, q.message_id, q.handler, q.generation, q.tenant,
       CASE WHEN q.waits = 0 THEN 'dead'
            WHEN q.id IN (SELECT unnest(c.ids) FROM {s}.tenfold_claims AS c) THEN 'running'
            ELSE 'waiting' END AS state,
       q.lane, q.priority, q.run_at, q.attempts, q.last_error, q.body
FROM {s}.tenfold_queue AS q
"""
_COUNTS: Final = f"SELECT v.handler, v.state, count(*) FROM ({_VIEW}) AS v GROUP BY 1, 2"
_LIST: Final = f"""
SELECT v.* FROM ({_VIEW}) AS v
WHERE v.id > $1 AND ($2::text IS NULL OR v.handler = $2) AND ($3::text IS NULL OR v.state = $3)
ORDER BY v.id LIMIT $4
"""
_LIST_DEAD: Final = f"""
SELECT v.* FROM ({_VIEW} WHERE q.waits = 0) AS v
WHERE v.id > $1 AND ($2::text IS NULL OR v.handler = $2) AND ($3::text IS NULL OR v.state = $3)
ORDER BY v.id LIMIT $4
"""
_ONE: Final = f"{_VIEW} WHERE q.id = $1"
# Each count reads one partial index, and stops at a bound. The first in line is looked for above
# the floors, and among what is due again.
_BACKLOG: Final = """
SELECT (SELECT count(*) FROM (
            SELECT FROM {s}.tenfold_queue WHERE waits = 1 LIMIT {most}) AS due)
       + (SELECT count(*) FROM (
            SELECT FROM {s}.tenfold_queue WHERE waits = 3 LIMIT {most}) AS parked)
       + (SELECT count(*) FROM (
            SELECT FROM {s}.tenfold_queue WHERE waits = 4 LIMIT {most}) AS again),
    (SELECT count(*) FROM (SELECT FROM {s}.tenfold_queue WHERE waits = 2 LIMIT {most}) AS later),
    (SELECT count(*) FROM (SELECT FROM {s}.tenfold_queue WHERE waits = 0 LIMIT {most}) AS dead),
    (SELECT min(f.run_at) FROM {s}.tenfold_floors AS t,
        unnest(t.priorities) AS known (priority), LATERAL (
            (SELECT q.run_at FROM {s}.tenfold_queue AS q
             WHERE q.waits = 1 AND q.priority = known.priority ORDER BY q.id LIMIT 1)
            UNION ALL
            (SELECT q.run_at FROM {s}.tenfold_queue AS q
             WHERE q.waits = 4 AND q.priority = known.priority ORDER BY q.id LIMIT 1)
        ) AS f),
    (SELECT q.run_at FROM {s}.tenfold_queue AS q WHERE q.waits = 1
     ORDER BY q.priority DESC, q.id LIMIT 1)
"""
# A dead letter whose unique key is taken by a live entry stays dead; of two with one key the older
# one waits again.
_REVIVE: Final = """
UPDATE {s}.tenfold_queue AS q SET waits = 4, holds = false, attempts = 0,
    run_at = coalesce($2::timestamptz, clock_timestamp())
WHERE q.waits = 0 AND q.id = ANY ($1)
  AND (q.unique_key IS NULL OR NOT EXISTS (
      SELECT FROM {s}.tenfold_queue AS o
      WHERE o.handler = q.handler AND o.tenant = q.tenant AND o.unique_key = q.unique_key
        AND (o.waits > 0 OR (o.id = ANY ($1) AND o.id < q.id))
  ))
"""
_TAKE_LOCK: Final = "SELECT {s}.tenfold_lock_1()"
_DISCARD: Final = """
DELETE FROM {s}.tenfold_queue
WHERE id = ANY ($1) AND id NOT IN (SELECT unnest(ids) FROM {s}.tenfold_claims)
RETURNING lane
"""
_INBOX_BITE: Final = """
SELECT max(b.at) FROM (
    SELECT at FROM {s}.tenfold_inbox
    WHERE at < $1 AND ($2::timestamptz IS NULL OR at > $2) ORDER BY at LIMIT 5000
) AS b
"""
_TRIM_INBOX: Final = """
DELETE FROM {s}.tenfold_inbox
WHERE at <= $1 AND ($2::timestamptz IS NULL OR at > $2)
  AND NOT EXISTS (
      SELECT FROM {s}.tenfold_queue AS q WHERE q.message_id = tenfold_inbox.message_id
  )
"""
_TRIM_REPLIES: Final = """
DELETE FROM {s}.tenfold_replies WHERE (scope, key) IN (
    SELECT scope, key FROM {s}.tenfold_replies
    WHERE expires_at <= coalesce($1::timestamptz, clock_timestamp())
    ORDER BY expires_at LIMIT 5000
)
"""


class PostgresQueue:
    """The queue of one module, as the ports `Queue` and `QueueDesk`.

    Each method is one transaction, or one read. Where `clock` is a `SystemClock`
    the store's own decides leases and due moments: processes on several machines
    then go by one clock.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock
        self._held = None if isinstance(clock, SystemClock) else clock
        self._texts: dict[str, str] = {}

    async def deliver(self, delivery: Delivery) -> int:
        """Add entries and move positions in one transaction. See `Queue.deliver`."""
        now = self._now()

        async def work(connection: Connection) -> int:
            return await self._deliver(connection, delivery, now)

        return await self._session.write(work)

    async def positions(self) -> dict[SubscriptionKey, int]:
        """How far each subscription has been delivered."""
        text = self._text(_POSITIONS)
        return _positions(await self._session.read(lambda c: c.fetch(text)))

    async def cycle(self, cycle: Cycle) -> Turn:
        """Finish, renew and claim in one transaction. See `Queue.cycle`."""
        asked, text = self._now(), self._text(TAKE_TURN)
        values = turn_values(cycle, self._clock.now())
        sent = False

        async def work(connection: Connection) -> Any:
            nonlocal sent
            if sent:
                raise _in_doubt(self._session.schema)
            sent = True
            try:
                # The queue may be another's for a while: a lease begins when it is given. What
                # expired meanwhile may be the asker's own, who could not renew it, so that waits.
                return await connection.fetchrow(text, asked, self._now(), *values)
            except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError):
                sent = False  # rolled back, so it may be sent again
                raise

        # One statement is a transaction of its own: that saves two of three round trips.
        return read_turn(await self._session.read(work))

    async def next_due(self) -> datetime | None:
        """When there is something to claim, on this process's clock. See `Queue.next_due`."""
        text, now = self._text(_NEXT_DUE), self._now()
        left: timedelta | None = await self._session.read(lambda c: c.fetchval(text, now))
        return None if left is None else self._clock.now() + left

    async def release_claims(self) -> int:
        """End every claim as lost, and return how many. See `Queue.release_claims`."""
        text = self._text(_RELEASE)
        return int(await self._session.write(lambda c: c.fetchval(text)))

    async def pending(self, handler: str, generation: int, below_seq: int) -> bool:
        """Whether an entry from an outbox row up to `below_seq` is unfinished."""
        text = self._text(_PENDING_OF_PROJECTION if "." in handler else _PENDING)
        row = (handler, generation, below_seq)
        return bool(await self._session.read(lambda c: c.fetchval(text, *row)))

    async def add(self, entries: Sequence[QueueEntry]) -> int:
        """Add entries outside any message; unique keys are honoured."""
        now = self._now()
        return await self._session.write(lambda c: self._insert(c, entries, now))

    async def trim(self, before: datetime) -> int:
        """Forget old inbox records and expired replies, in bites. See `Queue.trim`."""
        replies, now = self._text(_TRIM_REPLIES), self._now()
        forgotten = 0
        bite = await self._inbox_bite(before, None)
        while bite is not None:
            trim = partial(_execute, self._text(_TRIM_INBOX), bite)
            forgotten += _count(await self._session.write(trim))
            bite = await self._inbox_bite(before, bite[0])
        while count := _count(await self._session.write(lambda c: c.execute(replies, now))):
            forgotten += count
        return forgotten

    async def counts(self) -> dict[str, dict[str, int]]:
        """Entries by handler, then by state; states without entries are left out."""
        counts: dict[str, dict[str, int]] = {}
        text = self._text(_COUNTS)
        for handler, state, count in await self._session.read(lambda c: c.fetch(text)):
            counts.setdefault(handler, {})[state] = count
        return counts

    async def backlog(self) -> Backlog:
        """How much is unfinished, from indexes alone. See `QueueDesk.backlog`."""
        text = self._text(_BACKLOG)
        due, later, dead, *oldest = await self._session.read(lambda c: c.fetchrow(text))
        return Backlog(
            due=min(due, BACKLOG_LIMIT),
            later=later,
            dead=dead,
            oldest_due_at=min((at for at in oldest if at is not None), default=None),
        )

    async def entries(
        self, *, state: str | None, handler: str | None, after: int, limit: int
    ) -> list[EntryView]:
        """Entries in order of id, `after` exclusive, at most `limit` (1 to 500)."""
        text = self._text(_LIST_DEAD if state == "dead" else _LIST)
        values = (after, handler, state, limit)
        rows = await self._session.read(lambda c: c.fetch(text, *values))
        return [_view(row) for row in rows]

    async def entry(self, entry_id: int) -> EntryView | None:
        """One entry; None where there is none."""
        text = self._text(_ONE)
        row = await self._session.read(lambda c: c.fetchrow(text, entry_id))
        return None if row is None else _view(row)

    async def retry(self, entry_ids: Sequence[int]) -> int:
        """Let dead entries wait again with no attempts counted; returns how many.

        One that had lost its claim runs alone again. One whose unique key is
        taken by now stays dead.
        """
        text, values = self._text(_REVIVE), (list(entry_ids), self._now())
        return _count(await self._session.write(lambda c: c.execute(text, *values)))

    async def discard(self, entry_ids: Sequence[int]) -> int:
        """Remove entries that are waiting or dead; returns how many. Running ones stay."""

        async def work(connection: Connection) -> int:
            await connection.execute(self._text(_TAKE_LOCK))
            rows = await connection.fetch(self._text(_DISCARD), list(entry_ids))
            lanes = {row[0] for row in rows if row[0] is not None}
            await wake_lanes(connection, self._session.schema, lanes)
            return len(rows)

        return await self._session.write(work)

    async def _inbox_bite(
        self, before: datetime, after: datetime | None
    ) -> tuple[datetime, datetime | None] | None:
        """Up to when, and after when, a few thousand old records are; None where there are none."""
        text = self._text(_INBOX_BITE)
        up_to = await self._session.read(lambda c: c.fetchval(text, before, after))
        return None if up_to is None else (up_to, after)

    def _now(self) -> datetime | None:
        """The moment that a test holds; None where the store's own clock is asked."""
        return None if self._held is None else self._held.now()

    def _text(self, template: str) -> str:
        text = self._texts.get(template)
        if text is None:
            names = {"s": self._session.schema, "most": BACKLOG_LIMIT}
            text = self._texts[template] = template.format(**names)
        return text

    async def _insert(
        self, connection: Connection, entries: Sequence[QueueEntry], now: datetime | None
    ) -> int:
        if not entries:
            return 0
        values = entry_values(entries)
        return _count(await connection.execute(self._text(INSERT_ENTRIES), now, *values))

    async def _deliver(
        self, connection: Connection, delivery: Delivery, now: datetime | None
    ) -> int:
        if delivery.positions:
            keys = _key_values(delivery.positions)
            await connection.execute(self._text(_BEGIN_POSITIONS), *keys)
        named = {*delivery.positions, *filter(None, map(_key_of, delivery.entries))}
        stored = _positions(
            await connection.fetch(self._text(_LOCK_POSITIONS), *_key_values(named))
        )
        fresh = [entry for entry in delivery.entries if _is_fresh(entry, stored)]
        added = await self._insert(connection, fresh, now)
        if delivery.positions:
            moved = list(delivery.positions.values())
            await connection.execute(self._text(_MOVE_POSITIONS), *keys, moved)
        return added


def _in_doubt(schema: str) -> StoreUnavailableError:
    """A turn is not sent again by itself: taken twice, it would call its own finishes lost."""
    return StoreUnavailableError(
        f"The connection to {schema} was lost during a turn at its queue, so the turn may be "
        "taken. Take the next one: what is told as lost there was finished by this one.",
        outcome=Outcome.MAYBE_DONE,
    )


async def _execute(text: str, values: tuple[Any, ...], connection: Connection) -> str:
    return str(await connection.execute(text, *values))


def entry_values(entries: Sequence[QueueEntry]) -> tuple[list[Any], ...]:
    """What `INSERT_ENTRIES` takes after the moment: a list for each column."""
    return (
        [e.run_at for e in entries],
        [e.priority for e in entries],
        [e.lane for e in entries],
        [e.handler for e in entries],
        [e.generation for e in entries],
        [e.tenant for e in entries],
        [e.message_id for e in entries],
        [e.unique_key for e in entries],
        [e.source for e in entries],
        [e.source_seq for e in entries],
        [e.body for e in entries],
    )


def _key_of(entry: QueueEntry) -> SubscriptionKey | None:
    if entry.source is None or entry.source_seq is None:
        return None
    return SubscriptionKey(handler=entry.handler, generation=entry.generation, source=entry.source)


def _is_fresh(entry: QueueEntry, stored: dict[SubscriptionKey, int]) -> bool:
    key = _key_of(entry)
    return key is None or (entry.source_seq or 0) > stored.get(key, 0)


def _key_values(keys: Iterable[SubscriptionKey]) -> tuple[list[Any], ...]:
    found = list(keys)
    return [k.handler for k in found], [k.generation for k in found], [k.source for k in found]


def _positions(rows: Iterable[Any]) -> dict[SubscriptionKey, int]:
    return {
        SubscriptionKey(handler=handler, generation=generation, source=source): seq
        for handler, generation, source, seq in rows
    }


def _count(ended: str) -> int:
    """How many rows a statement changed, from what the server says of it."""
    return int(ended.rpartition(" ")[2])


def _view(row: Any) -> EntryView:
    return EntryView(
        id=row[0],
        message_id=row[1],
        handler=row[2],
        generation=row[3],
        tenant=row[4],
        state=row[5],
        lane=row[6],
        priority=row[7],
        run_at=row[8],
        attempts=row[9],
        last_error=row[10],
        body=row[11],
    )
