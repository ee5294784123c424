"""The usual claim, as a function in a module's schema that changes nothing. See `turns`.

Nearly always all that is due has one priority, and the first in line are what is
to be claimed, but for those whose lane is busy or waits for a moment. Then one
pass over the index gives the entries themselves, in order; a look (`look`)
decides first and reads them after.
"""

from __future__ import annotations

__all__ = ["FRONT"]

FRONT = """
-- The first `p_want` entries that are not in flight, but for those whose lane is busy, or has an
-- older entry that was set aside. No `ids` where it takes a look to say what a claim would take.
-- Changes nothing.
--   ids and the lists behind it: the entries, in order.
--   blocked: those that are not to be had for their lane.
--   is_full: there may be more to read. priority, top, left_over: as a look tells them, of the one
--       priority that there is.
CREATE OR REPLACE FUNCTION {s}.tenfold_front_1(
    p_want integer, p_now {s}.tenfold_floors,
    OUT ids bigint[], OUT lanes text[], OUT message_ids text[], OUT handlers text[],
    OUT generations integer[], OUT attempts integer[], OUT bodies bytea[],
    OUT blocked bigint[], OUT is_full boolean,
    OUT priority integer, OUT top bigint, OUT left_over bigint
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_lows bigint[] := p_now.priorities::bigint[] || -4294967296;
    v_highs bigint[] := 4294967296 || p_now.priorities::bigint[];
    v_known integer;
    v_priority integer;
    v_floor bigint;
    v_flying bigint[];
    v_busy text[];
    v_alone smallint;
BEGIN
    -- Above the floors, so that nothing is read again that was finished behind an open transaction.
    -- Asked by subqueries with a limit, which look into the index once for each priority: of EXISTS
    -- the planner makes a join, and on a new table, which it takes for empty, one that reads all.
    SELECT count(*), max(r.priority), max(r.floor) INTO v_known, v_priority, v_floor
    FROM unnest(p_now.priorities, p_now.floors) AS r (priority, floor)
    WHERE (
        SELECT true FROM {s}.tenfold_queue q
        WHERE q.waits = 1 AND q.priority = r.priority AND q.id > r.floor
        LIMIT 1
    );
    IF v_known <> 1
        OR EXISTS (
            SELECT FROM unnest(v_lows, v_highs) AS r (low, high) WHERE (
                SELECT true FROM {s}.tenfold_queue q
                WHERE q.waits = 1 AND q.priority > r.low AND q.priority < r.high
                LIMIT 1
            )
        )
        OR EXISTS (SELECT FROM {s}.tenfold_queue q WHERE q.waits = 4)
        OR EXISTS (SELECT FROM {s}.tenfold_queue q WHERE q.holds)
    THEN
        RETURN;
    END IF;
    v_flying := ARRAY(
        SELECT unnest(c.ids) FROM {s}.tenfold_claims c WHERE c.fence >= p_now.fence
    );
    v_busy := ARRAY(
        SELECT l.lane FROM (
            SELECT unnest(c.lanes) AS lane FROM {s}.tenfold_claims c WHERE c.fence >= p_now.fence
        ) AS l WHERE l.lane IS NOT NULL
    );
    SELECT array_agg(f.id) FILTER (WHERE f.is_free), array_agg(f.lane) FILTER (WHERE f.is_free),
           array_agg(f.message_id) FILTER (WHERE f.is_free),
           array_agg(f.handler) FILTER (WHERE f.is_free),
           array_agg(f.generation) FILTER (WHERE f.is_free),
           array_agg(f.attempts) FILTER (WHERE f.is_free),
           array_agg(f.body) FILTER (WHERE f.is_free),
           array_agg(f.id) FILTER (WHERE NOT f.is_free), count(*) >= p_want,
           v_priority, max(f.id), min(f.id) FILTER (WHERE NOT f.is_free), max(f.alone)
    INTO ids, lanes, message_ids, handlers, generations, attempts, bodies, blocked, is_full,
         priority, top, left_over, v_alone
    FROM (
        SELECT q.id, q.lane, q.message_id, q.handler, q.generation, q.attempts, q.alone, q.body,
               q.lane IS NULL OR q.lane NOT IN (SELECT unnest(v_busy)) AND NOT (
                   (SELECT EXISTS (
                       SELECT FROM {s}.tenfold_queue a WHERE a.waits >= 2 AND a.lane IS NOT NULL
                   )) AND EXISTS (
                       SELECT FROM {s}.tenfold_queue o
                       WHERE o.lane = q.lane AND o.waits >= 2 AND o.id < q.id
                   )
               ) AS is_free
        FROM {s}.tenfold_queue q
        WHERE q.waits = 1 AND q.priority = v_priority AND q.id > v_floor
          AND q.id NOT IN (SELECT unnest(v_flying))
        ORDER BY q.id LIMIT p_want
    ) AS f;
    IF v_alone > 0 OR (is_full AND cardinality(ids) * 2 < p_want) THEN
        ids := NULL;
    END IF;
END
$$
"""
