"""A module's queue on PostgreSQL, for the conformance suites."""

from __future__ import annotations

from datetime import datetime

from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.queue import PostgresQueue
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.adapters.postgres.session import PoolSession
from tenfold.ports.clock import Clock
from tenfold.ports.records import InboxKey
from tenfold.testing.clock import HeldClock

MODULE = "orders"
REMEMBER = (
    "INSERT INTO {s}.tenfold_inbox (message_id, handler, generation, at) VALUES ($1,$2,$3,$4)"
)
HAS = "SELECT 1 FROM {s}.tenfold_inbox WHERE message_id = $1 AND handler = $2 AND generation = $3"
UNFINISHED = "SELECT id FROM {s}.tenfold_queue WHERE lane = $1 AND (waits > 0 OR holds)"


class QueueBench:
    """A queue, and as many adapters over it as are asked for, each with a pool of its own."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.url = url
        self.clock = HeldClock()
        self.pools: list[Pool] = []
        self.session = self.another_session()
        self.queue = PostgresQueue(self.session, clock or self.clock)

    def another_session(self) -> PoolSession:
        self.pools.append(Pool(PoolSettings(url=self.url, size=4)))
        return PoolSession(self.pools[-1], MODULE)

    def another(self, clock: Clock | None = None) -> PostgresQueue:
        return PostgresQueue(self.another_session(), clock or self.clock)

    async def open(self) -> None:
        await self.session.read(lambda c: create_platform_tables(c, MODULE))

    async def close(self) -> None:
        for pool in self.pools:
            await pool.close()

    async def execute(self, text: str, *values: object) -> str:
        ready = text.format(s=self.session.schema)
        return str(await self.session.write(lambda c: c.execute(ready, *values)))

    async def column(self, text: str, *values: object) -> list[object]:
        """The first column of what a query finds."""
        ready = text.format(s=self.session.schema)
        return [row[0] for row in await self.session.read(lambda c: c.fetch(ready, *values))]

    async def remember(self, key: InboxKey) -> None:
        await self.execute(REMEMBER, key.message_id, key.handler, key.generation, self.clock.now())

    async def forgotten(self, key: InboxKey) -> bool:
        return not await self.column(HAS, key.message_id, key.handler, key.generation)

    async def ids(self) -> list[int]:
        return await self.column("SELECT id FROM {s}.tenfold_queue")  # type: ignore[return-value]

    async def unfinished(self, lane: str) -> list[int]:
        return await self.column(UNFINISHED, lane)  # type: ignore[return-value]

    async def live_fences(self) -> set[int]:
        found = await self.column("SELECT fence FROM {s}.tenfold_claims")
        return set(found)  # type: ignore[arg-type]

    async def server_now(self) -> datetime:
        (now,) = await self.column("SELECT clock_timestamp()")
        assert isinstance(now, datetime)
        return now
