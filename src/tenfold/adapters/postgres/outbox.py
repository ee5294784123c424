"""A module's outbox and stored replies in its schema on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from tenfold.adapters.postgres.horizon import FLOOR, HEAD, HORIZON, HORIZON_AGE, INDEX_ONLY
from tenfold.adapters.postgres.schema import lock_key
from tenfold.adapters.postgres.session import Session
from tenfold.ports.clock import Clock, SystemClock
from tenfold.ports.records import OutboxPage, OutboxRow, ReplyKey, StoredReply

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresOutbox"]

_EPOCH: Final = "SELECT value FROM {s}.tenfold_meta WHERE key = 'epoch'"
_READ: Final = """
WITH edge AS MATERIALIZED (SELECT {horizon} AS seq)
SELECT page.*, ({head}) AS head, (
        SELECT 1 FROM {s}.tenfold_outbox
        WHERE seq >= (SELECT seq FROM edge) AND {named} ORDER BY seq LIMIT 1
    ) IS NOT NULL AS held
FROM edge LEFT JOIN LATERAL (
    SELECT o.seq, o.message_id, o.name, o.tenant, o.order_key, o.at, o.body
    FROM {s}.tenfold_outbox AS o
    WHERE o.seq > $1 AND o.seq < (SELECT seq FROM edge) AND {named}
    ORDER BY o.seq LIMIT $3
) AS page ON true
ORDER BY page.seq
"""
_HAS: Final = """
SELECT EXISTS (
    SELECT FROM {s}.tenfold_outbox WHERE order_key = $1 AND name = ANY($2) AND tenant = $3
)
"""
_COUNT: Final = """
SELECT count(*) FROM (
    SELECT FROM {s}.tenfold_outbox
    WHERE seq > $2 AND seq <= $3 AND name = ANY($1) ORDER BY seq LIMIT $4
) AS found
"""
# Only a whole beginning of the log is forgotten: an event that is older than one before it waits
# for that one, so that nothing is missing above the floor. Nothing appears below the horizon any
# more, hence nothing below the floor.
_TRIM: Final = """
WITH edge AS MATERIALIZED (SELECT {horizon} AS seq),
bite AS MATERIALIZED (
    SELECT seq, at FROM {s}.tenfold_outbox
    WHERE seq <= $1 AND seq < (SELECT seq FROM edge) ORDER BY seq LIMIT 5000
),
gone AS (
    DELETE FROM {s}.tenfold_outbox AS o USING bite AS b
    WHERE o.seq = b.seq
        AND b.seq < coalesce((SELECT min(seq) FROM bite WHERE at >= $2), 9223372036854775807)
    RETURNING o.seq
),
raised AS (
    INSERT INTO {s}.tenfold_meta AS m
    SELECT 'outbox_floor', max(seq)::text FROM gone HAVING count(*) > 0
    ON CONFLICT (key) DO UPDATE
        SET value = greatest(m.value::bigint, excluded.value::bigint)::text
)
SELECT count(*) FROM gone
"""
_FIND: Final = """
SELECT fingerprint, body, position FROM {s}.tenfold_replies
WHERE scope = $1 AND key = $2 AND expires_at > coalesce($3::timestamptz, clock_timestamp())
"""


class PostgresOutbox:
    """The outbox of one module, as the ports `Outbox` and `Replies`.

    Args:
        session: the platform's own work on the module's schema.
        clock: a `SystemClock` means the store's own.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session = session
        self._held = None if isinstance(clock, SystemClock) else clock
        schema = session.schema
        self._lock = lock_key("trim", schema)
        horizon = HORIZON.format(s=schema)
        floor = FLOOR.format(s=schema)
        head = HEAD.format(s=schema, horizon=horizon, floor=floor)
        names = {"s": schema, "horizon": horizon, "floor": floor, "head": head}
        self._epoch = _EPOCH.format(**names)
        self._floor = floor
        self._head = head
        self._read = _READ.format(named="name = ANY($2)", **names)
        self._read_all = _READ.format(named="$2::text[] IS NULL", **names)
        self._has = _HAS.format(**names)
        self._count = _COUNT.format(**names)
        self._trim = _TRIM.format(**names)
        self._find = _FIND.format(**names)

    async def epoch(self) -> str:
        """The identity of this log, made with the schema's tables."""
        return str(await self._session.read(lambda c: c.fetchval(self._epoch)))

    async def head(self) -> int:
        """How far the log may be read now. See `Outbox.head`."""
        return int(await self._session.read(lambda c: c.fetchval(self._head)))

    async def floor(self) -> int:
        """The position of the newest forgotten event; 0 while the log is whole."""
        return int(await self._session.read(lambda c: c.fetchval(self._floor)))

    async def read(self, after: int, names: Sequence[str] | None, limit: int) -> OutboxPage:
        """Committed events of these names, or of all, after a position, up to the horizon."""
        statement = self._read_all if names is None else self._read
        wanted = None if names is None else list(names)

        async def work(connection: Connection) -> list[Any]:
            await connection.execute(INDEX_ONLY)
            found: list[Any] = await connection.fetch(statement, after, wanted, limit)
            return found

        return _page(await self._session.write(work), after, limit)

    async def count(self, names: Sequence[str], after: int, up_to: int, most: int) -> int:
        """How many events of these names lie between two positions. See `Outbox.count`."""

        async def work(connection: Connection) -> int:
            await connection.execute(INDEX_ONLY)
            return int(await connection.fetchval(self._count, list(names), after, up_to, most))

        return await self._session.write(work)

    async def has(self, names: Sequence[str], order_key: str, tenant: str) -> bool:
        """Whether an event of one of these names with this order key was published."""
        values = (order_key, list(names), tenant)
        return bool(await self._session.read(lambda c: c.fetchval(self._has, *values)))

    async def trim(self, before: datetime, up_to: int) -> int:
        """Forget events older than `before`, none after `up_to`, in bites; returns how many.

        Never one above the horizon. Several processes take turns.
        """

        async def bite(connection: Connection) -> int:
            await connection.execute("SELECT pg_advisory_xact_lock($1)", self._lock)
            await connection.execute(INDEX_ONLY)
            return int(await connection.fetchval(self._trim, up_to, before))

        forgotten = 0
        while count := await self._session.write(bite):
            forgotten += count
        return forgotten

    async def find(self, key: ReplyKey) -> StoredReply | None:
        """The reply stored under a key that has not expired; None where there is none."""
        now = None if self._held is None else self._held.now()
        row = await self._session.read(lambda c: c.fetchrow(self._find, key.scope, key.key, now))
        if row is None:
            return None
        return StoredReply(fingerprint=row[0], body=row[1], position=row[2])

    async def horizon_age_s(self) -> float:
        """For how many seconds the oldest open transaction has kept the log from being read on.

        0 where none is open. What is committed meanwhile is delivered when it has
        ended: raise an alarm when this grows beyond the longest unit of work.
        """
        return float(await self._session.read(lambda c: c.fetchval(HORIZON_AGE)))


def _page(found: list[Any], after: int, limit: int) -> OutboxPage:
    rows = [
        OutboxRow(
            seq=row[0],
            message_id=row[1],
            name=row[2],
            tenant=row[3],
            order_key=row[4],
            at=row[5],
            body=row[6],
        )
        for row in found
        if row[0] is not None
    ]
    head, held = found[0][7], found[0][8]
    if len(rows) == limit:
        return OutboxPage(rows=rows, position=rows[-1].seq, held=held)
    return OutboxPage(rows=rows, position=max(head, after), held=held)
