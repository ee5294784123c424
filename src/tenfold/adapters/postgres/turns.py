"""A turn at a module's queue, as functions in its schema: one round trip, one lock.

An entry's row stays as it is while it is worked; a claim is one row that names
its whole batch. A claim ends in one of three ways:

    claimed ── finished: each entry is done, retried, dead or returned
       │
       ├────── expired: nobody renewed it in time ────────┐ lost: one attempt
       └────── released: the only process says that all   │ more for each entry,
               claims are of its past life ───────────────┘ which then runs alone

**Turns.** Whoever finishes or claims first takes the queue's advisory lock. The
functions are volatile and run in read committed, so each statement after the
lock sees what the holder before committed.

**Floors.** A finished row stays in the index until vacuum has come, which an
open transaction, however idle, keeps from coming. Claims therefore do not read
the index from its beginning: for each priority `tenfold_floors` knows an id up
to which every entry of state DUE is claimed or gone. Entries that become due
again below the floor get the state AGAIN, which has an index of its own. Live
claims are looked for from the first one on, for the same reason. Ids
are not in commit order, so a floor is raised only when all transactions have
ended that ran when it was found; where one stays open and the way grows long, it
is raised unproven, and a sweep now and then looks below it.

The names carry a version: during a roll-out old code calls the old functions.
"""

from __future__ import annotations

__all__ = ["AGAIN", "DEAD", "DUE", "LATER", "LOST_ALONE", "LOST_IN_BATCH", "PARKED", "functions"]

# The states of a queue entry, in its column `waits`. A claim is not a state: rows stay as they
# are while they are worked, and `tenfold_claims` names them (one write for each batch).
DEAD = 0
"""A dead letter: out of the way until somebody retries or discards it."""
DUE = 1
"""May be claimed as soon as its lane is free; as it was inserted. No other state leads here."""
LATER = 2
"""Not before `run_at`; a turn makes it AGAIN when the moment has come."""
PARKED = 3
"""Due, but its lane was busy when a claim came past; it is not looked at until the lane is free.

Without parking every claim would read past all rows of a hot lane again.
"""
AGAIN = 4
"""May be claimed like a DUE one, but its id may be below the floor."""

# The values of a queue entry's `alone`, beside 0.
LOST_IN_BATCH = 1
"""A claim was lost that held it among others: from now on it is claimed by itself."""
LOST_ALONE = 2
"""A claim was lost that held nothing else."""

LOCK = """
-- Takes the queue's turn until the transaction ends. What follows in it has to be statements of
-- their own, which see what the holder before committed.
CREATE OR REPLACE FUNCTION {s}.tenfold_lock_1() RETURNS void
LANGUAGE sql VOLATILE AS 'SELECT pg_advisory_xact_lock({lock})'
"""
WAKE = """
-- Lets the first entry of each lane that was parked be looked at again, after the lane was freed.
-- Whoever claims it takes those behind it along. Waking one too many is harmless.
CREATE OR REPLACE FUNCTION {s}.tenfold_wake_1(p_lanes text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM {s}.tenfold_queue WHERE waits = 3) THEN
        RETURN;
    END IF;
    UPDATE {s}.tenfold_queue SET waits = 4
    WHERE waits = 3 AND id IN (
        SELECT (SELECT q.id FROM {s}.tenfold_queue q
                WHERE q.lane = l.lane AND q.waits >= 2 ORDER BY q.id LIMIT 1)
        FROM (SELECT DISTINCT unnest(p_lanes) AS lane) l WHERE l.lane IS NOT NULL
    );
END
$$
"""
FINISH = """
-- Records what became of a claim's entries; gives the lanes that it frees, or NULL where the claim
-- is gone. Ids are sorted. `p_what` is retry, postpone, dead, hold or return; `p_after` says how
-- long it waits, since the asker's clock may be another than this one.
CREATE OR REPLACE FUNCTION {s}.tenfold_finish_1(
    p_fence bigint, p_done bigint[], p_now timestamptz, p_until timestamptz,
    p_fences bigint[], p_ids bigint[], p_what text[], p_after interval[], p_errors text[]
) RETURNS text[]
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_ids bigint[];
    v_lanes text[];
    v_gone bigint[];
    v_kept_ids bigint[];
    v_kept_lanes text[];
BEGIN
    SELECT ids, lanes INTO v_ids, v_lanes FROM {s}.tenfold_claims WHERE fence = p_fence;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF p_done = v_ids THEN
        DELETE FROM {s}.tenfold_queue WHERE id = ANY (p_done);
        DELETE FROM {s}.tenfold_claims WHERE fence = p_fence;
        RETURN v_lanes;
    END IF;
    DELETE FROM {s}.tenfold_queue
    WHERE id = ANY (ARRAY(SELECT unnest(p_done) INTERSECT SELECT unnest(v_ids)));
    UPDATE {s}.tenfold_queue q SET
        waits = CASE WHEN o.what IN ('dead', 'hold') THEN 0
                     WHEN o.what IN ('retry', 'postpone') AND o.after > interval '0' THEN 2
                     ELSE 4 END,
        holds = o.what = 'hold',
        attempts = attempts + (o.what IN ('retry', 'dead', 'hold'))::integer,
        run_at = coalesce(p_now + o.after, run_at),
        last_error = coalesce(o.error, last_error)
    FROM unnest(p_fences, p_ids, p_what, p_after, p_errors) AS o (fence, id, what, after, error)
    WHERE o.fence = p_fence AND q.id = o.id AND o.id IN (SELECT unnest(v_ids));
    v_gone := p_done || ARRAY(
        SELECT o.id FROM unnest(p_fences, p_ids) AS o (fence, id) WHERE o.fence = p_fence
    );
    SELECT array_agg(c.id ORDER BY c.id), array_agg(c.lane ORDER BY c.id)
    INTO v_kept_ids, v_kept_lanes
    FROM unnest(v_ids, v_lanes) AS c (id, lane) WHERE c.id NOT IN (SELECT unnest(v_gone));
    IF v_kept_ids IS NULL THEN
        DELETE FROM {s}.tenfold_claims WHERE fence = p_fence;
        RETURN v_lanes;
    END IF;
    UPDATE {s}.tenfold_claims SET until = p_until, ids = v_kept_ids, lanes = v_kept_lanes
    WHERE fence = p_fence;
    RETURN ARRAY(SELECT unnest(v_lanes) EXCEPT SELECT unnest(v_kept_lanes));
END
$$
"""
LOSE = """
-- Ends the claims that had expired by a moment as lost (all of them for NULL); how many.
CREATE OR REPLACE FUNCTION {s}.tenfold_lose_1(p_expired timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_claim record;
    v_freed text[] := '{{}}';
    v_count integer := 0;
BEGIN
    FOR v_claim IN
        DELETE FROM {s}.tenfold_claims WHERE until <= coalesce(p_expired, 'infinity')
        RETURNING alone, ids, lanes
    LOOP
        UPDATE {s}.tenfold_queue SET
            attempts = attempts + 1,
            alone = greatest(alone, CASE WHEN v_claim.alone THEN 2 ELSE 1 END),
            waits = CASE WHEN waits IN (1, 3) THEN 4 ELSE waits END,
            last_error = 'The claim was lost: the process that worked it died, or stood still '
                         'beyond its lease.'
        WHERE id = ANY (v_claim.ids);
        v_freed := v_freed || v_claim.lanes;
        v_count := v_count + 1;
    END LOOP;
    IF v_count > 0 THEN
        PERFORM {s}.tenfold_wake_1(v_freed);
    END IF;
    RETURN v_count;
END
$$
"""
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
BEGIN
    WITH flying AS MATERIALIZED (
        SELECT unnest(c.ids) AS id FROM {s}.tenfold_claims c WHERE c.fence >= p_now.fence
    ),
    busy AS MATERIALIZED (
        SELECT l.lane FROM {s}.tenfold_claims c, unnest(c.lanes) AS l (lane)
        WHERE c.fence >= p_now.fence AND l.lane IS NOT NULL
        UNION ALL
        SELECT q.lane FROM {s}.tenfold_queue q WHERE v_held AND q.holds AND q.lane IS NOT NULL
    ),
    -- The priorities that are known, each above its floor; what is between them, where nothing
    -- has been yet; and what is due again.
    found AS MATERIALIZED (
        SELECT f.*, row_number() OVER (ORDER BY f.priority DESC, f.id) AS place
        FROM (
            SELECT d.* FROM unnest(v_priorities, v_floors) AS r (priority, floor), LATERAL (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 1 AND q.priority = r.priority AND q.id > r.floor
                  AND q.id NOT IN (SELECT id FROM flying)
                ORDER BY q.id LIMIT p_window
            ) AS d
            UNION ALL
            SELECT d.* FROM unnest(v_lows, v_highs) AS r (low, high), LATERAL (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 1 AND q.priority > r.low AND q.priority < r.high
                  AND q.id NOT IN (SELECT id FROM flying)
                ORDER BY q.priority DESC, q.id LIMIT p_window
            ) AS d
            UNION ALL
            SELECT d.* FROM (
                SELECT q.id, q.lane, q.alone, q.priority, q.waits FROM {s}.tenfold_queue q
                WHERE q.waits = 4 AND (q.alone = 0 OR NOT p_loner)
                  AND q.id NOT IN (SELECT id FROM flying)
                ORDER BY q.priority DESC, q.id LIMIT p_window
            ) AS d
        ) AS f
        ORDER BY f.priority DESC, f.id LIMIT p_window
    ),
    free AS MATERIALIZED (
        SELECT f.place, f.id, f.lane, f.alone FROM found f
        WHERE f.lane IS NULL OR f.lane NOT IN (SELECT lane FROM busy)
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
            AND (r.count < p_window OR NOT EXISTS (
                SELECT FROM {s}.tenfold_queue q WHERE q.waits = 1 AND q.priority < r.lowest))
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
        horizon = pg_snapshot_xmax(pg_current_snapshot()),
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
BEGIN
    IF v_began < p_now.sweep_at THEN
        RETURN false;
    END IF;
    UPDATE {s}.tenfold_queue q SET waits = 4
    FROM unnest(p_now.priorities, p_now.floors) AS r (priority, floor)
    WHERE q.waits = 1 AND q.priority = r.priority AND q.id <= r.floor
      AND q.id NOT IN (SELECT unnest(c.ids) FROM {s}.tenfold_claims c);
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
TURN = """
-- A turn: finish, renew, end what had expired, claim. The first row has the claim's number (NULL
-- for none) and the fences that are gone; the others are the entries.
CREATE OR REPLACE FUNCTION {s}.tenfold_turn_1(
    p_asked timestamptz, p_now timestamptz, p_lease_s double precision, p_want integer,
    p_finished bigint[], p_done bigint[], p_done_ends integer[],
    p_fences bigint[], p_ids bigint[], p_what text[], p_after interval[], p_errors text[],
    p_renew bigint[]
) RETURNS TABLE (
    fence bigint, lost bigint[], id bigint, message_id text, handler text, generation integer,
    lane text, attempts integer, alone smallint, body bytea
)
LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    -- A turn may be waited for: a lease begins when it is given. What expired meanwhile may be the
    -- asker's own, who could not renew it, so that waits for the next turn.
    v_asked timestamptz := coalesce(p_asked, clock_timestamp());
    v_now timestamptz;
    v_until timestamptz;
    v_fence bigint;
    v_lost bigint[] := '{{}}';
    v_lanes text[];
    v_freed text[] := '{{}}';
    v_floors {s}.tenfold_floors;
    v_claims record;
    v_xmin xid8;
    v_look record;
BEGIN
    PERFORM {s}.tenfold_lock_1();
    v_now := coalesce(p_now, clock_timestamp());
    v_until := v_now + make_interval(secs => p_lease_s);
    SELECT * INTO v_floors FROM {s}.tenfold_floors;
    FOR i IN 1 .. cardinality(p_finished) LOOP
        v_lanes := {s}.tenfold_finish_1(
            p_finished[i], p_done[coalesce(p_done_ends[i - 1], 0) + 1 : p_done_ends[i]],
            v_now, v_until, p_fences, p_ids, p_what, p_after, p_errors
        );
        IF v_lanes IS NULL THEN
            v_lost := v_lost || p_finished[i];
        ELSE
            v_freed := v_freed || v_lanes;
        END IF;
    END LOOP;
    IF cardinality(p_renew) > 0 THEN
        UPDATE {s}.tenfold_claims SET until = v_until WHERE fence = ANY (p_renew);
        v_lost := v_lost || ARRAY(
            SELECT r FROM unnest(p_renew) AS r
            WHERE r <> ALL (p_finished) AND r NOT IN (SELECT c.fence FROM {s}.tenfold_claims c)
        );
    END IF;
    IF cardinality(v_freed) > 0 THEN
        PERFORM {s}.tenfold_wake_1(v_freed);
    END IF;
    SELECT min(c.fence) AS first, min(c.until) AS until, bool_or(c.alone) AS alone INTO v_claims
    FROM {s}.tenfold_claims c WHERE c.fence >= v_floors.fence;
    IF v_claims.until <= v_asked THEN
        PERFORM {s}.tenfold_lose_1(v_asked);
        SELECT min(c.fence) AS first, min(c.until) AS until, bool_or(c.alone) AS alone INTO v_claims
        FROM {s}.tenfold_claims c WHERE c.fence >= v_floors.fence;
    END IF;
    IF p_want <= 0 THEN
        RETURN QUERY SELECT v_fence, v_lost, NULL::bigint, NULL::text, NULL::text,
                            NULL::integer, NULL::text, NULL::integer, NULL::smallint, NULL::bytea;
        RETURN;
    END IF;
    UPDATE {s}.tenfold_queue SET waits = 4 WHERE id IN (
        SELECT q.id FROM {s}.tenfold_queue q
        WHERE q.waits = 2 AND q.run_at <= v_now ORDER BY q.run_at LIMIT 10000
    );
    PERFORM {s}.tenfold_sweep_1(v_floors);
    v_xmin := pg_snapshot_xmin(pg_current_snapshot());
    SELECT * INTO v_look FROM {s}.tenfold_look_further_1(
        p_want, coalesce(v_claims.alone, false), v_floors
    );
    IF cardinality(v_look.taken) > 0 THEN
        INSERT INTO {s}.tenfold_claims (until, alone, ids, lanes)
        SELECT v_until, v_look.alone, array_agg(t.id ORDER BY t.id), array_agg(t.lane ORDER BY t.id)
        FROM unnest(v_look.taken, v_look.lanes) AS t (id, lane)
        RETURNING fence INTO v_fence;
    END IF;
    IF v_look.is_full AND cardinality(v_look.blocked) >= 1000 THEN
        UPDATE {s}.tenfold_queue SET waits = 3 WHERE id = ANY (v_look.blocked);
    END IF;
    IF v_look.priorities IS NOT NULL THEN
        PERFORM {s}.tenfold_raise_floors_1(
            v_floors, v_xmin, coalesce(v_claims.first, v_fence, v_floors.fence),
            v_look.is_full, v_look.priorities, v_look.top, v_look.left_over
        );
    END IF;
    RETURN QUERY SELECT v_fence, v_lost, NULL::bigint, NULL::text, NULL::text,
                        NULL::integer, NULL::text, NULL::integer, NULL::smallint, NULL::bytea;
    RETURN QUERY
        SELECT NULL::bigint, NULL::bigint[], q.id, q.message_id, q.handler, q.generation,
               q.lane, q.attempts, q.alone, q.body
        FROM unnest(v_look.taken) WITH ORDINALITY AS t (id, nth)
            JOIN {s}.tenfold_queue q ON q.id = t.id
        ORDER BY t.nth;
END
$$
"""
RELEASE = """
-- Ends every claim as lost; how many.
CREATE OR REPLACE FUNCTION {s}.tenfold_release_1() RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM {s}.tenfold_lock_1();
    RETURN {s}.tenfold_lose_1(NULL);
END
$$
"""
NEXT_DUE = """
-- How long until there is something to claim: nothing where there is now; NULL where nothing waits.
CREATE OR REPLACE FUNCTION {s}.tenfold_next_due_1(p_now timestamptz) RETURNS interval
LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_floors {s}.tenfold_floors;
    v_claims record;
    v_look record;
BEGIN
    SELECT * INTO v_floors FROM {s}.tenfold_floors;
    SELECT min(c.until) AS until, coalesce(bool_or(c.alone), false) AS alone INTO v_claims
    FROM {s}.tenfold_claims c WHERE c.fence >= v_floors.fence;
    SELECT * INTO v_look FROM {s}.tenfold_look_further_1(1, v_claims.alone, v_floors);
    IF cardinality(v_look.taken) > 0
        OR (v_look.is_full AND cardinality(v_look.blocked) >= 1000) THEN
        RETURN interval '0';
    END IF;
    RETURN least(
        (SELECT min(q.run_at) FROM {s}.tenfold_queue q WHERE q.waits = 2),
        v_claims.until
    ) - coalesce(p_now, clock_timestamp());
END
$$
"""
_FUNCTIONS = (
    LOCK,
    WAKE,
    FINISH,
    LOSE,
    LOOK,
    LOOK_FURTHER,
    FLOORS,
    SWEEP,
    TURN,
    RELEASE,
    NEXT_DUE,
)


def functions(schema: str, lock: int) -> list[str]:
    """The statements that make them, after the tables.

    Args:
        schema: quoted.
        lock: the number of the queue's advisory lock.
    """
    return [text.format(s=schema, lock=lock) for text in _FUNCTIONS]
