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

**Floors.** Claims do not read the queue from its beginning: see `floors`.

The names carry a version: during a roll-out old code calls the old functions.
"""

from __future__ import annotations

from tenfold.adapters.postgres.floors import FLOORS, SWEEP
from tenfold.adapters.postgres.front import FRONT
from tenfold.adapters.postgres.look import LOOK, LOOK_FURTHER

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
TURN = """
-- A turn: finish, renew, end what had expired, claim. Gives the claim's number (NULL for none), the
-- fences that are gone, and the entries in order, a list for each column, which costs a third of a
-- row for each entry.
CREATE OR REPLACE FUNCTION {s}.tenfold_turn_2(
    p_asked timestamptz, p_now timestamptz, p_lease_s double precision, p_want integer,
    p_finished bigint[], p_done bigint[], p_done_ends integer[],
    p_fences bigint[], p_ids bigint[], p_what text[], p_after interval[], p_errors text[],
    p_renew bigint[],
    OUT fence bigint, OUT lost bigint[], OUT alone smallint, OUT ids bigint[],
    OUT message_ids text[], OUT handlers text[], OUT generations integer[], OUT lanes text[],
    OUT attempts integer[], OUT bodies bytea[]
)
LANGUAGE plpgsql VOLATILE
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    -- A turn may be waited for: a lease begins when it is given. What expired meanwhile may be the
    -- asker's own, who could not renew it, so that waits for the next turn.
    v_asked timestamptz := coalesce(p_asked, clock_timestamp());
    v_now timestamptz;
    v_until timestamptz;
    v_lanes text[];
    v_freed text[] := '{{}}';
    v_floors {s}.tenfold_floors;
    v_claims record;
    v_xmin xid8;
    v_front record;
    v_look record;
BEGIN
    lost := '{{}}';
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
            lost := lost || p_finished[i];
        ELSE
            v_freed := v_freed || v_lanes;
        END IF;
    END LOOP;
    IF cardinality(p_renew) > 0 THEN
        UPDATE {s}.tenfold_claims SET until = v_until WHERE fence = ANY (p_renew);
        lost := lost || ARRAY(
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
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM {s}.tenfold_queue q WHERE q.waits = 2 AND q.run_at <= v_now) THEN
        UPDATE {s}.tenfold_queue SET waits = 4 WHERE id IN (
            SELECT q.id FROM {s}.tenfold_queue q
            WHERE q.waits = 2 AND q.run_at <= v_now ORDER BY q.run_at LIMIT 10000
        );
    END IF;
    PERFORM {s}.tenfold_sweep_1(v_floors);
    v_xmin := pg_snapshot_xmin(pg_current_snapshot());
    v_front := {s}.tenfold_front_1(p_want, v_floors);
    IF v_front.ids IS NOT NULL THEN
        ids := v_front.ids;
        lanes := v_front.lanes;
        message_ids := v_front.message_ids;
        handlers := v_front.handlers;
        generations := v_front.generations;
        attempts := v_front.attempts;
        bodies := v_front.bodies;
        alone := 0;
        INSERT INTO {s}.tenfold_claims (until, alone, ids, lanes)
        VALUES (v_until, false, ids, lanes)
        RETURNING fence INTO fence;
        IF v_front.is_full AND cardinality(v_front.blocked) >= 1000 THEN
            UPDATE {s}.tenfold_queue SET waits = 3 WHERE id = ANY (v_front.blocked);
        END IF;
        PERFORM {s}.tenfold_raise_floors_1(
            v_floors, v_xmin, coalesce(v_claims.first, fence), v_front.is_full,
            ARRAY[v_front.priority], ARRAY[v_front.top], ARRAY[v_front.left_over]
        );
        RETURN;
    END IF;
    SELECT * INTO v_look FROM {s}.tenfold_look_further_1(
        p_want, coalesce(v_claims.alone, false), v_floors
    );
    IF cardinality(v_look.taken) > 0 THEN
        INSERT INTO {s}.tenfold_claims (until, alone, ids, lanes)
        SELECT v_until, v_look.alone, array_agg(t.id ORDER BY t.id), array_agg(t.lane ORDER BY t.id)
        FROM unnest(v_look.taken, v_look.lanes) AS t (id, lane)
        RETURNING fence INTO fence;
    END IF;
    IF v_look.is_full AND cardinality(v_look.blocked) >= 1000 THEN
        UPDATE {s}.tenfold_queue SET waits = 3 WHERE id = ANY (v_look.blocked);
    END IF;
    IF v_look.priorities IS NOT NULL THEN
        PERFORM {s}.tenfold_raise_floors_1(
            v_floors, v_xmin, coalesce(v_claims.first, fence, v_floors.fence),
            v_look.is_full, v_look.priorities, v_look.top, v_look.left_over
        );
    END IF;
    SELECT max(q.alone), array_agg(q.id ORDER BY t.nth), array_agg(q.message_id ORDER BY t.nth),
           array_agg(q.handler ORDER BY t.nth), array_agg(q.generation ORDER BY t.nth),
           array_agg(q.lane ORDER BY t.nth), array_agg(q.attempts ORDER BY t.nth),
           array_agg(q.body ORDER BY t.nth)
    INTO alone, ids, message_ids, handlers, generations, lanes, attempts, bodies
    FROM unnest(v_look.taken) WITH ORDINALITY AS t (id, nth)
        JOIN {s}.tenfold_queue q ON q.id = t.id;
END
$$
"""
TURN_1 = """
-- The same, with a row for each entry behind the first, which has the claim's number and the fences
-- that are gone.
CREATE OR REPLACE FUNCTION {s}.tenfold_turn_1(
    p_asked timestamptz, p_now timestamptz, p_lease_s double precision, p_want integer,
    p_finished bigint[], p_done bigint[], p_done_ends integer[],
    p_fences bigint[], p_ids bigint[], p_what text[], p_after interval[], p_errors text[],
    p_renew bigint[]
) RETURNS TABLE (
    fence bigint, lost bigint[], id bigint, message_id text, handler text, generation integer,
    lane text, attempts integer, alone smallint, body bytea
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    v_turn record;
BEGIN
    v_turn := {s}.tenfold_turn_2(
        p_asked, p_now, p_lease_s, p_want, p_finished, p_done, p_done_ends, p_fences, p_ids,
        p_what, p_after, p_errors, p_renew
    );
    RETURN QUERY SELECT v_turn.fence, v_turn.lost, NULL::bigint, NULL::text, NULL::text,
                        NULL::integer, NULL::text, NULL::integer, NULL::smallint, NULL::bytea;
    RETURN QUERY
        SELECT NULL::bigint, NULL::bigint[], e.id, e.message_id, e.handler, e.generation,
               e.lane, e.attempts, v_turn.alone, e.body
        FROM unnest(
            v_turn.ids, v_turn.message_ids, v_turn.handlers, v_turn.generations, v_turn.lanes,
            v_turn.attempts, v_turn.bodies
        ) AS e (id, message_id, handler, generation, lane, attempts, body);
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
SET jit = off SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off
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
    FRONT,
    TURN,
    TURN_1,
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
