"""A module's outbox and stored replies in its SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime

import msgspec

from tenfold.adapters.sqlite.records import find_reply, microseconds, moment, outbox_head
from tenfold.adapters.sqlite.session import Session
from tenfold.ports.clock import Clock
from tenfold.ports.records import OutboxPage, OutboxRow, ReplyKey, StoredReply

__all__ = ["SqliteOutbox"]

EPOCH = "SELECT value FROM tenfold_meta WHERE key = 'epoch'"
# `seq` alone is a safe place to read on from: a file has one writer, so numbers are committed in
# order. A store with many writers must order by transaction and stay below its horizon.
READ = """
SELECT seq, message_id, name, tenant, order_key, at, body FROM tenfold_outbox
WHERE seq > ? AND name IN (SELECT value FROM json_each(?)) ORDER BY seq LIMIT ?
"""
READ_ALL = """
SELECT seq, message_id, name, tenant, order_key, at, body FROM tenfold_outbox
WHERE seq > ? ORDER BY seq LIMIT ?
"""
HAS = """
SELECT 1 FROM tenfold_outbox INDEXED BY tenfold_outbox_by_key
WHERE order_key = ? AND name IN (SELECT value FROM json_each(?)) AND tenant = ? LIMIT 1
"""
COUNT = """
SELECT count(*) FROM (
    SELECT 1 FROM tenfold_outbox
    WHERE seq > ? AND seq <= ? AND name IN (SELECT value FROM json_each(?)) LIMIT ?
)
"""
TRIM = """
DELETE FROM tenfold_outbox WHERE seq <= ? AND at < ? AND seq IN (
    SELECT seq FROM tenfold_outbox ORDER BY seq LIMIT 5000
) RETURNING seq
"""
FLOOR = "SELECT value FROM tenfold_meta WHERE key = 'outbox_floor'"
RAISE_FLOOR = """
INSERT INTO tenfold_meta VALUES ('outbox_floor', ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""

_json = msgspec.json.Encoder()


class SqliteOutbox:
    """The outbox of one module, as the ports `Outbox` and `Replies`."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def epoch(self) -> str:
        """The identity of this log, made with the file."""
        return await self._session.read(lambda c: str(c.execute(EPOCH).fetchone()[0]))

    async def head(self) -> int:
        """The position of the newest committed event, trimmed ones included; 0 at first."""
        return await self._session.read(outbox_head)

    async def floor(self) -> int:
        """The position of the newest forgotten event; 0 while the log is whole."""
        return await self._session.read(_floor)

    async def read(self, after: int, names: Sequence[str] | None, limit: int) -> OutboxPage:
        """Committed events of these names, or of all, after a position, in commit order."""
        return await self._session.read(lambda c: _read(c, after, names, limit))

    async def has(self, names: Sequence[str], order_key: str, tenant: str) -> bool:
        """Whether an event of one of these names with this order key was published."""
        values = (order_key, _text(names), tenant)
        return await self._session.read(lambda c: c.execute(HAS, values).fetchone() is not None)

    async def count(self, names: Sequence[str], after: int, up_to: int, most: int) -> int:
        """How many events of these names lie between two positions. See `Outbox.count`."""
        values = (after, up_to, _text(names), most)
        return await self._session.read(lambda c: int(c.execute(COUNT, values).fetchone()[0]))

    async def trim(self, before: datetime, up_to: int) -> int:
        """Forget events older than `before`, none after `up_to`, in bites; returns how many."""
        before_us = microseconds(before)
        forgotten = 0
        while count := await self._session.write(lambda c: _trim(c, up_to, before_us)):
            forgotten += count
        return forgotten

    async def find(self, key: ReplyKey) -> StoredReply | None:
        """The reply stored under a key that has not expired; None where there is none."""
        now = self._clock.now()
        return await self._session.read(lambda c: find_reply(c, key.scope, key.key, now))


def _floor(connection: sqlite3.Connection) -> int:
    row = connection.execute(FLOOR).fetchone()
    return 0 if row is None else int(row[0])


def _trim(connection: sqlite3.Connection, up_to: int, before_us: int) -> int:
    """One bite; the floor is raised with it, so that nobody takes the rest for the whole."""
    forgotten = [seq for (seq,) in connection.execute(TRIM, (up_to, before_us))]
    if forgotten:
        floor = max(_floor(connection), *forgotten)
        connection.execute(RAISE_FLOOR, (str(floor),))
    return len(forgotten)


def _read(
    connection: sqlite3.Connection, after: int, names: Sequence[str] | None, limit: int
) -> OutboxPage:
    # The head is read first: where the two statements see different states, a head that is too
    # old only means that some rows are looked at again; one that is too new would skip rows.
    head = outbox_head(connection)
    if names is None:
        found = connection.execute(READ_ALL, (after, limit))
    else:
        found = connection.execute(READ, (after, _text(names), limit))
    rows = [
        OutboxRow(
            seq=seq,
            message_id=message_id,
            name=name,
            tenant=tenant,
            order_key=order_key,
            at=moment(at),
            body=body,
        )
        for seq, message_id, name, tenant, order_key, at, body in found
    ]
    if len(rows) == limit:
        return OutboxPage(rows=rows, position=rows[-1].seq)
    return OutboxPage(rows=rows, position=max(head, after, rows[-1].seq if rows else 0))


def _text(values: Sequence[str]) -> str:
    return _json.encode(list(values)).decode()
