"""A module's queue in its SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec

from tenfold.adapters.sqlite.claims import claimable_now, lose_all, take_turn, wake_lanes
from tenfold.adapters.sqlite.records import insert_entries, microseconds, moment
from tenfold.adapters.sqlite.session import Session
from tenfold.ports.clock import Clock
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

__all__ = ["SqliteQueue"]

POSITIONS = "SELECT handler, generation, source, seq FROM tenfold_positions"
# A position never goes backwards, whoever is late.
MOVE_POSITION = """
INSERT INTO tenfold_positions (handler, generation, source, seq) VALUES (?, ?, ?, ?)
ON CONFLICT (handler, generation, source) DO UPDATE SET seq = max(seq, excluded.seq)
"""
NEXT = """
SELECT min(at) FROM (
    SELECT min(run_at) AS at FROM tenfold_queue WHERE waits = 2
    UNION ALL SELECT min(until) FROM tenfold_claims
)
"""
PENDING = """
SELECT 1 FROM tenfold_queue
WHERE handler = ? AND generation = ? AND source_seq IS NOT NULL AND source_seq <= ?
  AND (waits > 0 OR holds = 1)
LIMIT 1
"""
# People's view of an entry: claimed ones are running, whatever their row says.
VIEW = """
SELECT id, message_id, handler, generation, tenant,
       CASE WHEN waits = 0 THEN 'dead'
            WHEN id IN (SELECT j.value FROM tenfold_claims, json_each(tenfold_claims.ids) AS j)
            THEN 'running' ELSE 'waiting' END AS state,
       lane, priority, run_at, attempts, last_error, body
FROM tenfold_queue
"""
COUNTS = f"SELECT handler, state, count(*) FROM ({VIEW}) GROUP BY handler, state"
# Each count reads one partial index, never the table, and stops at a bound.
BACKLOG = """
WITH RECURSIVE lines (priority) AS (
    SELECT max(priority) FROM tenfold_queue INDEXED BY tenfold_queue_due WHERE waits = 1
    UNION ALL
    SELECT (SELECT max(q.priority) FROM tenfold_queue AS q INDEXED BY tenfold_queue_due
            WHERE q.waits = 1 AND q.priority < lines.priority)
    FROM lines WHERE lines.priority IS NOT NULL
)
SELECT
    (SELECT count(*) FROM (SELECT 1 FROM tenfold_queue INDEXED BY tenfold_queue_due
                           WHERE waits = 1 LIMIT :most))
    + (SELECT count(*) FROM (SELECT 1 FROM tenfold_queue INDEXED BY tenfold_queue_parked
                             WHERE waits = 3 LIMIT :most)),
    (SELECT count(*) FROM (SELECT 1 FROM tenfold_queue INDEXED BY tenfold_queue_later
                           WHERE waits = 2 LIMIT :most)),
    (SELECT count(*) FROM (SELECT 1 FROM tenfold_queue INDEXED BY tenfold_queue_dead
                           WHERE waits = 0 LIMIT :most)),
    (SELECT min((SELECT q.run_at FROM tenfold_queue AS q INDEXED BY tenfold_queue_due
                 WHERE q.waits = 1 AND q.priority = lines.priority ORDER BY q.id LIMIT 1))
     FROM lines WHERE lines.priority IS NOT NULL)
"""
LIST = f"""
SELECT * FROM ({VIEW})
WHERE id > :after AND (:handler IS NULL OR handler = :handler)
  AND (:state IS NULL OR state = :state)
ORDER BY id LIMIT :limit
"""
LIST_DEAD = f"""
SELECT * FROM ({VIEW} WHERE waits = 0)
WHERE id > :after AND (:handler IS NULL OR handler = :handler)
ORDER BY id LIMIT :limit
"""
ONE = f"{VIEW} WHERE id = ?"
# A dead letter whose unique key is taken by a live entry stays dead.
REVIVE = """
UPDATE OR IGNORE tenfold_queue SET waits = 1, holds = 0, attempts = 0, run_at = ?
WHERE waits = 0 AND id IN (SELECT value FROM json_each(?))
"""
DISCARD = """
DELETE FROM tenfold_queue
WHERE id IN (SELECT value FROM json_each(?))
  AND id NOT IN (SELECT j.value FROM tenfold_claims, json_each(tenfold_claims.ids) AS j)
RETURNING lane
"""
INBOX_CHUNK = """
SELECT max(id) FROM (SELECT id FROM tenfold_inbox WHERE id > ? ORDER BY id LIMIT 5000)
"""
TRIM_INBOX = """
DELETE FROM tenfold_inbox
WHERE id > ? AND id <= ? AND at < ? AND message_id NOT IN (SELECT message_id FROM tenfold_queue)
"""
TRIM_REPLIES = """
DELETE FROM tenfold_replies
WHERE id IN (SELECT id FROM tenfold_replies WHERE expires_at <= ? ORDER BY expires_at LIMIT 5000)
"""

_json = msgspec.json.Encoder()


class SqliteQueue:
    """The queue of one module, as the ports `Queue` and `QueueDesk`.

    Each method is one transaction on the module's writer, or one read. Leases
    are on `clock`; a SQLite file has one machine, hence one clock.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def deliver(self, delivery: Delivery) -> int:
        """Add entries and move positions in one transaction. See `Queue.deliver`."""
        now = self._clock.now()
        return await self._session.write(lambda c: _deliver(c, delivery, now))

    async def positions(self) -> dict[SubscriptionKey, int]:
        """How far each subscription has been delivered."""
        return await self._session.read(_positions)

    async def cycle(self, cycle: Cycle) -> Turn:
        """Finish, renew and claim in one transaction. See `Queue.cycle`."""
        asked = microseconds(self._clock.now())
        clock = self._clock
        # The writer may be held up: a lease begins when it is given. What expired meanwhile may be
        # the asker's own, who could not renew it, so that waits for the next turn.
        return await self._session.write(
            lambda c: take_turn(c, cycle, microseconds(clock.now()), expired_at=asked)
        )

    async def next_due(self) -> datetime | None:
        """When there is something to claim. See `Queue.next_due`."""
        now = self._clock.now()
        return await self._session.read(lambda c: _next_due(c, now))

    async def release_claims(self) -> int:
        """End every claim as lost, and return how many. See `Queue.release_claims`."""
        return await self._session.write(lose_all)

    async def pending(self, handler: str, generation: int, below_seq: int) -> bool:
        """Whether an entry from an outbox row up to `below_seq` is unfinished."""
        row = (handler, generation, below_seq)
        return await self._session.read(lambda c: c.execute(PENDING, row).fetchone() is not None)

    async def add(self, entries: Sequence[QueueEntry]) -> int:
        """Add entries outside any message; unique keys are honoured."""
        now = self._clock.now()
        return await self._session.write(lambda c: insert_entries(c, entries, now))

    async def trim(self, before: datetime) -> int:
        """Forget old inbox records and expired replies, in bites. See `Queue.trim`."""
        before_us, now_us = microseconds(before), microseconds(self._clock.now())
        forgotten = after = 0
        while True:
            bite = await self._session.write(partial(_trim_inbox, after=after, before_us=before_us))
            if bite is None:
                break
            after, count = bite
            forgotten += count
        while count := await self._session.write(
            lambda c: c.execute(TRIM_REPLIES, (now_us,)).rowcount
        ):
            forgotten += count
        return forgotten

    async def counts(self) -> dict[str, dict[str, int]]:
        """Entries by handler, then by state; states without entries are left out."""
        counts: dict[str, dict[str, int]] = {}
        rows = await self._session.read(lambda c: c.execute(COUNTS).fetchall())
        for handler, state, count in rows:
            counts.setdefault(handler, {})[state] = count
        return counts

    async def backlog(self) -> Backlog:
        """How much is unfinished, from indexes alone. See `QueueDesk.backlog`."""
        most = {"most": BACKLOG_LIMIT}
        due, later, dead, at = await self._session.read(
            lambda c: c.execute(BACKLOG, most).fetchone()
        )
        return Backlog(
            due=min(due, BACKLOG_LIMIT),
            later=later,
            dead=dead,
            oldest_due_at=None if at is None else moment(at),
        )

    async def entries(
        self, *, state: str | None, handler: str | None, after: int, limit: int
    ) -> list[EntryView]:
        """Entries in order of id, `after` exclusive, at most `limit` (1 to 500)."""
        statement = LIST_DEAD if state == "dead" else LIST
        values = {"state": state, "handler": handler, "after": after, "limit": limit}
        rows = await self._session.read(lambda c: c.execute(statement, values).fetchall())
        return [_view(row) for row in rows]

    async def entry(self, entry_id: int) -> EntryView | None:
        """One entry; None where there is none."""
        row = await self._session.read(lambda c: c.execute(ONE, (entry_id,)).fetchone())
        return None if row is None else _view(row)

    async def retry(self, entry_ids: Sequence[int]) -> int:
        """Let dead entries wait again with no attempts counted; returns how many.

        One that had lost its claim runs alone again. One whose unique key is
        taken by now stays dead.
        """
        values = (microseconds(self._clock.now()), _text(entry_ids))
        return await self._session.write(lambda c: c.execute(REVIVE, values).rowcount)

    async def discard(self, entry_ids: Sequence[int]) -> int:
        """Remove entries that are waiting or dead; returns how many. Running ones stay."""
        return await self._session.write(lambda c: _discard(c, entry_ids))


def _deliver(connection: sqlite3.Connection, delivery: Delivery, now: datetime) -> int:
    stored = _positions(connection)
    fresh = [entry for entry in delivery.entries if _is_fresh(entry, stored)]
    added = insert_entries(connection, fresh, now)
    connection.executemany(
        MOVE_POSITION,
        [(k.handler, k.generation, k.source, seq) for k, seq in delivery.positions.items()],
    )
    return added


def _is_fresh(entry: QueueEntry, stored: dict[SubscriptionKey, int]) -> bool:
    if entry.source is None or entry.source_seq is None:
        return True
    key = SubscriptionKey(handler=entry.handler, generation=entry.generation, source=entry.source)
    return entry.source_seq > stored.get(key, 0)


def _positions(connection: sqlite3.Connection) -> dict[SubscriptionKey, int]:
    return {
        SubscriptionKey(handler=handler, generation=generation, source=source): seq
        for handler, generation, source, seq in connection.execute(POSITIONS)
    }


def _next_due(connection: sqlite3.Connection, now: datetime) -> datetime | None:
    if claimable_now(connection):
        return now
    (at,) = connection.execute(NEXT).fetchone()
    return None if at is None else moment(at)


def _discard(connection: sqlite3.Connection, entry_ids: Sequence[int]) -> int:
    lanes = connection.execute(DISCARD, (_text(entry_ids),)).fetchall()
    wake_lanes(connection, {lane for (lane,) in lanes if lane is not None})
    return len(lanes)


def _trim_inbox(
    connection: sqlite3.Connection, after: int, before_us: int
) -> tuple[int, int] | None:
    """One bite: where it ended and how many it forgot; None at the end."""
    (up_to,) = connection.execute(INBOX_CHUNK, (after,)).fetchone()
    if up_to is None:
        return None
    forgotten = connection.execute(TRIM_INBOX, (after, up_to, before_us)).rowcount
    (at,) = connection.execute(
        "SELECT max(at) FROM tenfold_inbox WHERE id = ?", (up_to,)
    ).fetchone()
    # Rows are in order of time: once a bite's last one is young, so are all that follow.
    return None if at is not None and at >= before_us and not forgotten else (up_to, forgotten)


def _view(row: tuple[Any, ...]) -> EntryView:
    return EntryView(
        id=row[0],
        message_id=row[1],
        handler=row[2],
        generation=row[3],
        tenant=row[4],
        state=row[5],
        lane=row[6],
        priority=row[7],
        run_at=moment(row[8]),
        attempts=row[9],
        last_error=row[10],
        body=row[11],
    )


def _text(values: Sequence[int]) -> str:
    return _json.encode(list(values)).decode()
