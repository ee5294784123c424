"""A module's file, for the conformance suites of the platform's own records."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tenfold.adapters.sqlite.outbox import SqliteOutbox
from tenfold.adapters.sqlite.queue import SqliteQueue
from tenfold.adapters.sqlite.records import (
    inbox_has,
    insert_events,
    insert_inbox,
    insert_reply,
)
from tenfold.adapters.sqlite.schema import create_platform_tables
from tenfold.ports.records import EventRecord, InboxKey, ReplyKey
from tenfold.testing.clock import HeldClock

T = TypeVar("T")


class FileSession:
    """The session over one file, on the caller's own thread: each piece of work a transaction."""

    def __init__(self, file: Path) -> None:
        self.connection = sqlite3.connect(file, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        create_platform_tables(self.connection)

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(self.connection)
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")
        return result

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return work(self.connection)


class SqliteBench:
    """Everything the suites ask for, over one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock = HeldClock()
        self.sessions = [FileSession(file)]
        self.session = self.sessions[0]
        self.queue = SqliteQueue(self.session, self.clock)
        self.outbox = SqliteOutbox(self.session, self.clock)

    def another(self) -> SqliteQueue:
        self.sessions.append(FileSession(self.file))
        return SqliteQueue(self.sessions[-1], self.clock)

    def another_outbox(self) -> SqliteOutbox:
        self.sessions.append(FileSession(self.file))
        return SqliteOutbox(self.sessions[-1], self.clock)

    async def remember(self, key: InboxKey) -> None:
        await self.session.write(lambda c: insert_inbox(c, key, self.clock.now()))

    async def forgotten(self, key: InboxKey) -> bool:
        return not await self.session.read(lambda c: inbox_has(c, key))

    async def publish(self, events: Sequence[EventRecord]) -> None:
        await self.session.write(lambda c: insert_events(c, list(events)))

    async def store_reply(self, key: ReplyKey, body: bytes, position: int) -> None:
        await self.session.write(lambda c: insert_reply(c, key, body, position, self.clock.now()))

    def close(self) -> None:
        for session in self.sessions:
            session.connection.close()
