"""Events carried from outbox to queue inside one PostgreSQL, by one statement.

    outbox, after … below the horizon ──> × followers ──> queue
                                             │
                             positions, under row locks

No event leaves the server. The relay's place is the stored position of each
follower, which is locked before anything is added: a second relay waits, sees
where the first has come to, and leaves out what is not above it. The page was
read in the statement's own snapshot, from before the wait, which is as good: up
to where it goes, all that ever commits below its horizon is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tenfold.adapters.postgres.horizon import FLOOR, HEAD, HORIZON, INDEX_ONLY
from tenfold.adapters.postgres.session import Session
from tenfold.adapters.postgres.turns import DUE
from tenfold.ports.clock import Clock, SystemClock
from tenfold.ports.transfer import Carried, Follower

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresTransfer"]

# $1 after, $2 names, $3 source, $4 to $8 a row for each follower and event, $9 the present
# moment where a test holds the clock. The limit is written out: the planner takes one that it
# does not know for a tenth of the table.
_CARRY: Final = """
WITH edge AS MATERIALIZED (
    SELECT {horizon} AS seq, coalesce($9::timestamptz, clock_timestamp()) AS now
),
page AS MATERIALIZED (
    SELECT o.seq, o.at, o.message_id, o.name, o.tenant, o.order_key, o.body
    FROM {source}.tenfold_outbox AS o
    WHERE o.seq > $1 AND o.seq < (SELECT seq FROM edge) AND o.name = ANY($2)
    ORDER BY o.seq LIMIT {limit}
),
looked AS MATERIALIZED (SELECT count(*) AS read, max(seq) AS last FROM page),
follower AS MATERIALIZED (
    SELECT f.* FROM unnest($4::text[], $5::int[], $6::text[], $7::int[], $8::text[])
        WITH ORDINALITY AS f(handler, generation, subscriber, priority, name, n)
),
place AS MATERIALIZED (
    SELECT p.handler, p.generation, p.seq FROM {s}.tenfold_positions AS p
    WHERE p.source = $3 AND (SELECT read FROM looked) > 0
        AND (p.handler, p.generation) IN (SELECT handler, generation FROM follower)
    ORDER BY p.handler, p.generation
    FOR UPDATE OF p
),
added AS (
    INSERT INTO {s}.tenfold_queue (waits, run_at, priority, lane, handler, generation, tenant,
        message_id, source, source_seq, body)
    SELECT {due}, edge.now, f.priority,
        f.subscriber || ':' || f.generation || ':' || e.tenant || ':' || e.order_key,
        f.handler, f.generation, e.tenant, e.message_id, $3, e.seq, e.body
    FROM page AS e CROSS JOIN edge
        JOIN follower AS f ON f.name = e.name
        JOIN place ON place.handler = f.handler AND place.generation = f.generation
            AND place.seq < e.seq
    ORDER BY e.seq, f.n
    RETURNING 1
),
moved AS (
    UPDATE {s}.tenfold_positions AS p SET seq = looked.last FROM place, looked
    WHERE p.source = $3 AND p.handler = place.handler AND p.generation = place.generation
        AND p.seq < looked.last
)
SELECT looked.read, looked.last, (SELECT count(*) FROM added),
    ({head}) AS head,
    (SELECT 1 FROM {source}.tenfold_outbox
        WHERE seq >= (SELECT seq FROM edge) AND name = ANY($2) ORDER BY seq LIMIT 1
    ) IS NOT NULL AS held,
    (SELECT array_agg(handler || ':' || generation) FROM place),
    (SELECT min(seq) FROM place),
    (SELECT array_agg(array_position($2, e.name) ORDER BY e.seq) FROM page AS e),
    (SELECT array_agg(greatest(extract(epoch FROM edge.now - e.at), 0)::float4 ORDER BY e.seq)
        FROM page AS e CROSS JOIN edge)
FROM looked
"""


class PostgresTransfer:
    """Implements `Transfer` between two modules' schemas in one database.

    Args:
        session: the platform's own work on the subscribing module's schema.
        schema: the schema of the module that publishes, quoted.
        source: that module's name, as the positions have it.
        clock: a `SystemClock` means the store's own.
    """

    def __init__(self, session: Session, schema: str, source: str, clock: Clock) -> None:
        self._session = session
        self._source = source
        self._clock = None if isinstance(clock, SystemClock) else clock
        horizon = HORIZON.format(s=schema)
        self._names = {
            "s": session.schema,
            "due": DUE,
            "source": schema,
            "horizon": horizon,
            "head": HEAD.format(s=schema, horizon=horizon, floor=FLOOR.format(s=schema)),
        }
        self._texts: dict[int, str] = {}

    async def carry(self, followers: Sequence[Follower], after: int, limit: int) -> Carried:
        """Read, add and move in one transaction. See `Transfer.carry`."""
        text = self._texts.get(limit) or self._text(limit)
        names = sorted({name for follower in followers for name in follower.events})
        pairs = [(follower, name) for follower in followers for name in follower.events]
        values = (
            after,
            names,
            self._source,
            [follower.handler for follower, _ in pairs],
            [follower.generation for follower, _ in pairs],
            [follower.subscriber for follower, _ in pairs],
            [follower.priority for follower, _ in pairs],
            [name for _, name in pairs],
            None if self._clock is None else self._clock.now(),
        )

        async def work(connection: Connection) -> Any:
            await connection.execute(INDEX_ONLY)
            return await connection.fetchrow(text, *values)

        row = await self._session.write(work)
        return _carried(row, followers, names, after, limit)

    def _text(self, limit: int) -> str:
        text = self._texts[limit] = _CARRY.format(**self._names, limit=int(limit))
        return text


def _carried(
    row: Any, followers: Sequence[Follower], names: list[str], after: int, limit: int
) -> Carried:
    read, last, added, head, held, places, least, kinds, lags = row
    if not read:
        return Carried(read=0, added=0, position=max(head, after), lags_s={}, held=held)
    lags_s: dict[str, list[float]] = {}
    if added:
        for kind, lag_s in zip(kinds, lags, strict=True):
            lags_s.setdefault(names[kind - 1], []).append(lag_s)
    there = set(places or ())
    missing = [f for f in followers if f"{f.handler}:{f.generation}" not in there]
    position = last if read >= limit else max(head, last)
    return Carried(
        read=read,
        added=added,
        # Another relay may have come further, with all of them.
        position=position if missing else max(position, least),
        lags_s=lags_s,
        held=held,
        missing=tuple((follower.handler, follower.generation) for follower in missing),
    )
