"""The platform's records in a module's file, read and written inside somebody's transaction.

These run for every unit of work, on the writer's thread, so they are plain
functions with constant statements, which `sqlite3` keeps prepared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from tenfold.adapters.sqlite.schema import DUE, LATER
from tenfold.ports.records import (
    EventRecord,
    InboxKey,
    PlaceMove,
    QueueEntry,
    ReplyKey,
    StoredReply,
)

__all__ = [
    "claim_alive",
    "find_reply",
    "inbox_has",
    "insert_entries",
    "insert_events",
    "insert_inbox",
    "insert_reply",
    "microseconds",
    "moment",
    "move_place",
    "outbox_head",
]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

INSERT_EVENT = """
INSERT INTO tenfold_outbox (message_id, name, tenant, order_key, at, body)
VALUES (?, ?, ?, ?, ?, ?)
"""
# The conflict names the partial index of unique keys, so that no other violation is swallowed.
INSERT_ENTRY = """
INSERT INTO tenfold_queue
    (waits, priority, lane, run_at, handler, generation, tenant, message_id,
     unique_key, source, source_seq, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (handler, tenant, unique_key) WHERE unique_key IS NOT NULL AND waits > 0 DO NOTHING
"""
INSERT_INBOX = """
INSERT INTO tenfold_inbox (message_id, handler, generation, at) VALUES (?, ?, ?, ?)
ON CONFLICT (message_id, handler, generation) DO NOTHING
"""
INBOX_HAS = """
SELECT 1 FROM tenfold_inbox WHERE message_id = ? AND handler = ? AND generation = ?
"""
FIND_REPLY = """
SELECT fingerprint, body, position FROM tenfold_replies
WHERE scope = ? AND key = ? AND expires_at > ?
"""
FORGET_EXPIRED_REPLY = """
DELETE FROM tenfold_replies WHERE scope = ? AND key = ? AND expires_at <= ?
"""
INSERT_REPLY = """
INSERT INTO tenfold_replies (scope, key, fingerprint, expires_at, position, body)
VALUES (?, ?, ?, ?, ?, ?)
"""
MOVE_PLACE = """
UPDATE tenfold_positions SET seq = ?
WHERE handler = ? AND generation = ? AND source = ? AND seq <= ?
"""
CLAIM_ALIVE = "SELECT 1 FROM tenfold_claims WHERE fence = ?"
# The sequence outlives the rows: the head stays where it is when the log is trimmed.
OUTBOX_HEAD = "SELECT seq FROM sqlite_sequence WHERE name = 'tenfold_outbox'"


def microseconds(at: datetime) -> int:
    """A moment as whole microseconds since 1970 in UTC. `at` is timezone-aware."""
    return (at - _EPOCH) // _MICROSECOND


def moment(us: int) -> datetime:
    """The moment, in UTC, of whole microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=us)


def insert_events(connection: sqlite3.Connection, events: Iterable[EventRecord]) -> int:
    """Append events to the outbox, in their order; returns the position of the last."""
    position: int | None = None
    for e in events:
        row = (e.message_id, e.name, e.tenant, e.order_key, microseconds(e.at), e.body)
        position = connection.execute(INSERT_EVENT, row).lastrowid
    return position or 0


def insert_entries(
    connection: sqlite3.Connection, entries: Sequence[QueueEntry], now: datetime
) -> int:
    """Add entries to the queue, in their order; returns how many were added.

    One whose unique key is taken by an entry that waits or runs is left out.
    """
    now_us = microseconds(now)
    rows = []
    for entry in entries:
        run_at = now_us if entry.run_at is None else microseconds(entry.run_at)
        rows.append(
            (
                LATER if run_at > now_us else DUE,
                entry.priority,
                entry.lane,
                run_at,
                entry.handler,
                entry.generation,
                entry.tenant,
                entry.message_id,
                entry.unique_key,
                entry.source,
                entry.source_seq,
                entry.body,
            )
        )
    return connection.executemany(INSERT_ENTRY, rows).rowcount if rows else 0


def insert_inbox(connection: sqlite3.Connection, key: InboxKey, now: datetime) -> bool:
    """Note that a message has its effect in this transaction; False where it had it before."""
    row = (key.message_id, key.handler, key.generation, microseconds(now))
    return connection.execute(INSERT_INBOX, row).rowcount == 1


def inbox_has(connection: sqlite3.Connection, key: InboxKey) -> bool:
    """Whether a message has had its effect."""
    row = (key.message_id, key.handler, key.generation)
    return connection.execute(INBOX_HAS, row).fetchone() is not None


def find_reply(
    connection: sqlite3.Connection, scope: str, key: str, now: datetime
) -> StoredReply | None:
    """The reply stored under a key, unless it has expired; its fingerprint is not compared here."""
    row = connection.execute(FIND_REPLY, (scope, key, microseconds(now))).fetchone()
    return None if row is None else StoredReply(fingerprint=row[0], body=row[1], position=row[2])


def insert_reply(
    connection: sqlite3.Connection, key: ReplyKey, body: bytes, position: int, now: datetime
) -> None:
    """Store what a keyed command answers; an expired reply under the key gives way.

    Raises: sqlite3.IntegrityError where a reply that has not expired is there:
    the other of two commands at once has committed, and this one rolls back.
    """
    connection.execute(FORGET_EXPIRED_REPLY, (key.scope, key.key, microseconds(now)))
    connection.execute(
        INSERT_REPLY,
        (key.scope, key.key, key.fingerprint, microseconds(key.expires_at), position, body),
    )


def move_place(connection: sqlite3.Connection, move: PlaceMove) -> bool:
    """Move a subscription on; whether it was no further already, and there is one."""
    key = move.key
    values = (move.upto, key.handler, key.generation, key.source, move.after)
    return connection.execute(MOVE_PLACE, values).rowcount == 1


def claim_alive(connection: sqlite3.Connection, fence: int) -> bool:
    """Whether a claim still stands: asked in the transaction that has the effect.

    A claim past its time stands until somebody ends it: only then may its
    entries be claimed again.
    """
    return connection.execute(CLAIM_ALIVE, (fence,)).fetchone() is not None


def outbox_head(connection: sqlite3.Connection) -> int:
    """The position of the newest event, trimmed ones included; 0 where there never was one."""
    row = connection.execute(OUTBOX_HEAD).fetchone()
    return 0 if row is None else int(row[0])
