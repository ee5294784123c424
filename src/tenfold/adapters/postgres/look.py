"""What a claim would take, as functions in a module's schema that change nothing. See `turns`."""

from __future__ import annotations

__all__ = ["LOOK", "LOOK_FURTHER"]

LOOK = """
-- What a claim of `p_want` entries would take, by priority, then id; a lane's run stands together,
-- where its first entry stands. Reads `p_window` entries that are not in flight. Changes nothing.
--   taken, lanes: the entries, in order; alone: they are one that runs by itself.
--   blocked: entries that were met whose lane is busy, held, or waits for a moment, where fewer
--       than wanted were taken. The first entry of a free lane never is among them, if it is due.
--   is_full: there was more to read. top, left_over: by priority, the last DUE entry that was
--       read, and the first of those that are not taken.
CREATE OR REPLACE FUNCTION {s}.tenfold_look_1(
    p_want integer, p_window integer, p_loner boolean, p_now {s}.tenfold_floors,
    OUT taken bigint[], OUT lanes text[], OUT alone boolean, OUT blocked bigint[],
    OUT is_full boolean, OUT priorities integer[], OUT top bigint[], OUT left_over bigint[]
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_priorities integer[] := p_now.priorities;
    v_floors bigint[] := p_now.floors;
    v_lows bigint[] := v_priorities::bigint[] || -4294967296;
    v_highs bigint[] := 4294967296 || v_priorities::bigint[];
    v_lowest bigint := coalesce((SELECT min(f) FROM unnest(v_floors) AS f), 0);
    v_held boolean := EXISTS (SELECT FROM {s}.tenfold_queue q WHERE q.holds);
    v_alones smallint[];
    -- Arrays, since the planner takes one that it does not know for short, and puts it in a hash
    -- table. What it thinks of tables that are filled and emptied all the time may be far off.
    v_flying bigint[] := ARRAY(
        SELECT unnest(c.ids) FROM {s}.tenfold_claims c WHERE c.fence >= p_now.fence
    );
    v_busy text[] := ARRAY(
        SELECT l.lane FROM {s}.tenfold_claims c, unnest(c.lanes) AS l (lane)
        WHERE c.fence >= p_now.fence AND l.lane IS NOT NULL
    );
BEGIN
    IF v_held THEN
        v_busy := v_busy || ARRAY(
            SELECT DISTINCT q.lane FROM {s}.tenfold_queue q WHERE q.holds AND q.lane IS NOT NULL
        );
    END IF;
    WITH
    -- The priorities that are known, each above its floor; what is between them, where nothing
    -- has been yet; and what is due again.
    found AS MATERIALIZED (
        SELECT f.*, row_number() OVER (ORDER BY f.priority DESC, f.id) AS place
        FROM (
            SELECT d.* FROM unnest(v_priorities, v_floors) AS r (priority, floor), LATERAL (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 1 AND q.priority = r.priority AND q.id > r.floor
                  AND q.id NOT IN (SELECT unnest(v_flying))
                ORDER BY q.id LIMIT p_window
            ) AS d
            UNION ALL
            SELECT d.* FROM unnest(v_lows, v_highs) AS r (low, high), LATERAL (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 1 AND q.priority > r.low AND q.priority < r.high
                  AND q.id NOT IN (SELECT unnest(v_flying))
                ORDER BY q.priority DESC, q.id LIMIT p_window
            ) AS d
            UNION ALL
            SELECT d.* FROM (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 4 AND (q.alone = 0 OR NOT p_loner)
                  AND q.id NOT IN (SELECT unnest(v_flying))
                ORDER BY q.priority DESC, q.id LIMIT p_window
            ) AS d
        ) AS f
        ORDER BY f.priority DESC, f.id LIMIT p_window
    ),
    free AS MATERIALIZED (
        SELECT f.place, f.id, f.lane, f.alone FROM found f
        WHERE f.lane IS NULL OR f.lane NOT IN (SELECT unnest(v_busy))
    ),
    -- Nearly always what was found of the free lanes is their fronts already: nothing of theirs was
    -- set aside, and nothing that was not read comes before what was.
    plain AS MATERIALIZED (
        SELECT NOT EXISTS (SELECT FROM found f WHERE f.waits = 4)
            AND NOT EXISTS (
                SELECT FROM {s}.tenfold_queue q WHERE q.waits >= 2 AND q.lane = ANY (
                    ARRAY(SELECT f.lane FROM free f WHERE f.lane IS NOT NULL))
            )
            AND r.lowest = r.highest
            AND (r.count < p_window OR r.lowest <= (
                SELECT q.priority FROM {s}.tenfold_queue q WHERE q.waits = 1
                ORDER BY q.priority, q.id DESC LIMIT 1))
            AS so
        FROM (SELECT count(*) AS count, min(f.priority) AS lowest, max(f.priority) AS highest
              FROM found f) AS r
    ),
    -- Where something to be claimed may stand: an entry without a lane, one that runs alone, the
    -- first that was met of a lane.
    units AS MATERIALIZED (
        SELECT u.place, u.id, u.lane, u.alone FROM (
            SELECT f.place, f.id, f.lane, f.alone FROM free f WHERE f.lane IS NULL OR f.alone > 0
            UNION ALL
            SELECT min(f.place), NULL, f.lane, 0 FROM free f
            WHERE f.lane IS NOT NULL AND f.alone = 0 GROUP BY f.lane
        ) AS u WHERE NOT (SELECT so FROM plain) ORDER BY u.place
    ),
    chosen AS MATERIALIZED (
        (SELECT f.id, f.lane, f.alone, f.place, 1::bigint AS nth FROM free f
         WHERE (SELECT so FROM plain) ORDER BY f.place LIMIT p_want)
        UNION ALL
        -- Read unit by unit, and no further than is wanted.
        (SELECT r.id, u.lane, u.alone, u.place, r.nth FROM units u, LATERAL (
            SELECT u.id, 1::bigint AS nth WHERE u.lane IS NULL
            UNION ALL
            SELECT u.id, 1::bigint WHERE u.lane IS NOT NULL AND u.id IS NOT NULL AND NOT EXISTS (
                SELECT FROM {s}.tenfold_queue q
                WHERE q.lane = u.lane AND q.waits >= 2 AND q.id <= v_lowest AND q.id < u.id
            ) AND NOT EXISTS (
                SELECT FROM {s}.tenfold_queue q
                WHERE q.lane = u.lane AND q.waits > 0 AND q.id > v_lowest AND q.id < u.id
            )
            UNION ALL
            -- A lane's front. Below every floor there are only entries set aside. One that is not
            -- due, or runs alone, blocks those behind it.
            SELECT c.id, c.nth FROM (
                SELECT r.id, row_number() OVER w AS nth,
                       bool_or(r.waits = 2 OR r.alone > 0) OVER w AS stopped
                FROM (
                    (SELECT q.id, q.waits, q.alone FROM {s}.tenfold_queue q
                     WHERE q.lane = u.lane AND q.waits >= 2 AND q.id <= v_lowest
                     ORDER BY q.id LIMIT p_want)
                    UNION ALL
                    (SELECT q.id, q.waits, q.alone FROM {s}.tenfold_queue q
                     WHERE q.lane = u.lane AND q.waits > 0 AND q.id > v_lowest
                     ORDER BY q.id LIMIT p_want)
                ) AS r
                WHERE u.id IS NULL
                WINDOW w AS (ORDER BY r.id ROWS UNBOUNDED PRECEDING)
            ) AS c WHERE NOT c.stopped
         ) AS r
         LIMIT p_want)
    )
    SELECT (SELECT array_agg(c.id ORDER BY c.place, c.nth) FROM chosen c),
           (SELECT array_agg(c.lane ORDER BY c.place, c.nth) FROM chosen c),
           (SELECT array_agg(c.alone ORDER BY c.place, c.nth) FROM chosen c),
           (SELECT array_agg(f.id) FROM found f
            WHERE (SELECT count(*) FROM chosen) < p_want AND f.lane IS NOT NULL
              AND f.lane NOT IN (SELECT c.lane FROM chosen c WHERE c.lane IS NOT NULL)),
           (SELECT count(*) >= p_window FROM found),
           d.priorities, d.top, d.left_over
    INTO taken, lanes, v_alones, blocked, is_full, priorities, top, left_over
    FROM (
        SELECT array_agg(p.priority) AS priorities, array_agg(p.top) AS top,
               array_agg(p.left_over) AS left_over
        FROM (
            SELECT f.priority, max(f.id) AS top,
                   min(f.id) FILTER (WHERE f.id NOT IN (SELECT id FROM chosen)) AS left_over
            FROM found f WHERE f.waits = 1 GROUP BY f.priority
        ) AS p
    ) AS d;
    alone := coalesce(v_alones[1] > 0, false);
    IF alone THEN
        taken := taken[1:1];
        lanes := lanes[1:1];
        -- What was chosen behind it is left; where the floors end is not worth finding out.
        priorities := NULL;
    ELSIF 0 < ANY (v_alones) THEN
        SELECT array_agg(t.id ORDER BY t.nth), array_agg(t.lane ORDER BY t.nth)
        INTO taken, lanes
        FROM unnest(taken, lanes, v_alones) WITH ORDINALITY AS t (id, lane, alone, nth)
        WHERE t.alone = 0;
    END IF;
    taken := coalesce(taken, '{{}}');
    lanes := coalesce(lanes, '{{}}');
    blocked := coalesce(blocked, '{{}}');
END
$$
"""
LOOK_FURTHER = """
-- A look that reads on where what it met is not to be had.
CREATE OR REPLACE FUNCTION {s}.tenfold_look_further_1(
    p_want integer, p_loner boolean, p_now {s}.tenfold_floors,
    OUT taken bigint[], OUT lanes text[], OUT alone boolean, OUT blocked bigint[],
    OUT is_full boolean, OUT priorities integer[], OUT top bigint[], OUT left_over bigint[]
)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    SELECT * INTO taken, lanes, alone, blocked, is_full, priorities, top, left_over
    FROM {s}.tenfold_look_1(p_want, p_want + 16, p_loner, p_now);
    IF is_full AND NOT alone AND cardinality(taken) * 2 < p_want THEN
        SELECT * INTO taken, lanes, alone, blocked, is_full, priorities, top, left_over
        FROM {s}.tenfold_look_1(p_want, p_want + 2000, p_loner, p_now);
    END IF;
END
$$
"""
