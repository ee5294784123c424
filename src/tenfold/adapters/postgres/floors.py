"""Where claims begin to read, as functions in a module's schema. See `turns`.

A finished row stays in the index until vacuum has come, which an
open transaction, however idle, keeps from coming. Claims therefore do not read
the index from its beginning: for each priority `tenfold_floors` knows an id up
to which every entry of state DUE is claimed or gone. Entries that become due
again below the floor get the state AGAIN, which has an index of its own. Live
claims are looked for from the first one on, for the same reason. Ids
are not in commit order, so a floor is raised only when all transactions have
ended that ran when it was found; where one stays open and the way grows long, it
is raised unproven, and a sweep now and then looks below it.
"""

from __future__ import annotations

__all__ = ["FLOORS", "SWEEP"]

FLOORS = """
-- Raises the floors after a look: what was proven safe meanwhile becomes the floor, and what this
-- look found is what is to be proven next. `p_xmin` is of a snapshot before the look; `p_fence` is
-- the first claim that lives.
CREATE OR REPLACE FUNCTION {s}.tenfold_raise_floors_1(
    p_now {s}.tenfold_floors, p_xmin xid8, p_fence bigint, p_full boolean,
    p_priorities integer[], p_top bigint[], p_left_over bigint[]
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_proven boolean := p_now.horizon <= p_xmin;
    v_age interval := clock_timestamp() - p_now.next_at;
    v_newest bigint := coalesce(greatest(
        (SELECT max(t) FROM unnest(p_top) AS t), (SELECT max(n) FROM unnest(p_now.nexts) AS n)
    ), 0);
    v_way bigint := v_newest - coalesce((SELECT max(f) FROM unnest(p_now.floors) AS f), 0);
BEGIN
    -- Seldom, since this row leaves dead ones behind too; at once where a priority is new.
    IF p_now.priorities @> coalesce(p_priorities, '{{}}') AND (
        v_way < 500 OR v_age < interval '30 ms'
        OR NOT (v_proven OR (v_way > 2000 AND v_age > interval '60 ms'))
    ) THEN
        RETURN;
    END IF;
    UPDATE {s}.tenfold_floors SET
        (priorities, floors, nexts) = (
            SELECT array_agg(u.priority ORDER BY u.priority DESC),
                   array_agg(least(u.next, u.reached) ORDER BY u.priority DESC),
                   array_agg(u.reached ORDER BY u.priority DESC)
            FROM (
                SELECT priority, coalesce(k.next, 0) AS next,
                       CASE WHEN l.top IS NOT NULL THEN coalesce(l.left_over - 1, l.top)
                            WHEN p_full THEN k.floor
                            ELSE v_newest END AS reached
                FROM unnest(p_now.priorities, p_now.floors, p_now.nexts)
                         AS k (priority, floor, next)
                    FULL JOIN unnest(p_priorities, p_top, p_left_over)
                         AS l (priority, top, left_over) USING (priority)
            ) AS u
        ),
        fence = p_fence,
        -- The newest number that a snapshot knows is of a transaction that has ended.
        horizon = greatest(pg_snapshot_xmax(pg_current_snapshot()), pg_current_xact_id()),
        next_at = clock_timestamp(),
        unproven = unproven OR NOT v_proven;
END
$$
"""
SWEEP = """
-- Finds what was committed below the floors after they were raised, and what has no known priority
-- any more is forgotten. Takes at most a fiftieth of the time, whatever vacuum may not remove.
CREATE OR REPLACE FUNCTION {s}.tenfold_sweep_1(p_now {s}.tenfold_floors) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_began timestamptz := clock_timestamp();
    v_missed bigint[];
BEGIN
    IF v_began < p_now.sweep_at THEN
        RETURN false;
    END IF;
    -- OFFSET 0 keeps the planner from reading all that is due where it takes a new table for empty.
    v_missed := ARRAY(
        SELECT below.id
        FROM unnest(p_now.priorities, p_now.floors) AS r (priority, floor) CROSS JOIN LATERAL (
            SELECT q.id FROM {s}.tenfold_queue q
            WHERE q.waits = 1 AND q.priority = r.priority AND q.id <= r.floor
            OFFSET 0
        ) AS below
        WHERE below.id NOT IN (SELECT unnest(c.ids) FROM {s}.tenfold_claims c)
    );
    IF cardinality(v_missed) > 0 THEN
        UPDATE {s}.tenfold_queue q SET waits = 4 WHERE q.id = ANY (v_missed) AND q.waits = 1;
    END IF;
    UPDATE {s}.tenfold_floors SET
        unproven = false,
        sweep_at = clock_timestamp() + greatest(
            CASE WHEN unproven THEN interval '1 s' ELSE interval '10 s' END,
            50 * (clock_timestamp() - v_began)
        );
    RETURN true;
END
$$
"""
