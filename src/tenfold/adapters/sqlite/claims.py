"""Claims: which entries of a queue are worked by whom, decided in one transaction a turn.

An entry's row stays as it is while it is worked; a claim is one row that names
its whole batch. A claim ends in one of three ways:

    claimed ── finished: each entry is done, retried, dead or returned
       │
       ├────── expired: nobody renewed it in time ────────┐ lost: one attempt
       └────── released: the only process says that all   │ more for each entry,
               claims are of its past life ───────────────┘ which then runs alone

Whoever finishes names the claim's number, the fence. Where the claim is gone
nothing is changed: its entries may be another worker's by then. All moments are
on the clock of the store's owner, handed in as `now`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

import msgspec

from tenfold.adapters.sqlite.records import microseconds
from tenfold.adapters.sqlite.schema import DUE, LATER, LOST_ALONE, LOST_IN_BATCH
from tenfold.ports.records import Claim, Claimed, Cycle, Finish, Turn

__all__ = ["claimable_now", "lose_all", "take_turn", "wake_lanes"]

_LOST = "The claim was lost: the process that worked it died, or stood still beyond its lease."

CLAIMS = "SELECT fence, until, alone, ids, lanes FROM tenfold_claims"
ADD_CLAIM = "INSERT INTO tenfold_claims (until, alone, ids, lanes) VALUES (?, ?, ?, ?)"
KEEP_CLAIM = "UPDATE tenfold_claims SET until = ?, ids = ?, lanes = ? WHERE fence = ?"
RENEW_CLAIM = "UPDATE tenfold_claims SET until = ? WHERE fence = ?"
END_CLAIM = "DELETE FROM tenfold_claims WHERE fence = ?"

DONE = "DELETE FROM tenfold_queue WHERE id IN (SELECT value FROM json_each(?))"
RETRY = """
UPDATE tenfold_queue SET waits = ?, run_at = ?, last_error = ?, attempts = attempts + ?
WHERE id = ?
"""
DEAD_LETTER = """
UPDATE tenfold_queue SET waits = 0, holds = ?, attempts = attempts + 1, last_error = ?
WHERE id = ?
"""
LOSE = """
UPDATE tenfold_queue SET attempts = attempts + 1, alone = max(alone, ?), last_error = ?
WHERE id IN (SELECT value FROM json_each(?))
"""
FALL_DUE = "UPDATE tenfold_queue SET waits = 1 WHERE waits = 2 AND run_at <= ?"
# Of what can be claimed; ends early, so its cost is what is read, not what is there.
SCAN = """
SELECT id, lane, alone FROM tenfold_queue INDEXED BY tenfold_queue_due
WHERE waits = 1 ORDER BY priority DESC, id
"""
LANE = """
SELECT id, waits, alone FROM tenfold_queue INDEXED BY tenfold_queue_lanes
WHERE lane = ? AND waits > 0 ORDER BY id LIMIT ?
"""
ANY_HELD = "SELECT 1 FROM tenfold_queue WHERE holds = 1 LIMIT 1"
HELD = "SELECT 1 FROM tenfold_queue WHERE holds = 1 AND lane = ?"
PARK = "UPDATE tenfold_queue SET waits = 3 WHERE id IN (SELECT value FROM json_each(?))"
ANY_PARKED = "SELECT 1 FROM tenfold_queue WHERE waits = 3 LIMIT 1"
# Only the first of a lane is woken: whoever claims it takes the parked ones behind it along.
WAKE = """
UPDATE tenfold_queue SET waits = 1
WHERE waits = 3 AND id = (
    SELECT min(id) FROM tenfold_queue INDEXED BY tenfold_queue_lanes WHERE lane = ? AND waits > 0
)
"""
ENTRIES = """
SELECT id, message_id, handler, generation, lane, attempts, alone, body FROM tenfold_queue
WHERE id IN (SELECT value FROM json_each(?))
"""

PARKED_AT_MOST = 1000
"""Entries that one turn parks, so that a turn's cost has a bound; the next parks more."""

_json = msgspec.json.Encoder()
_ids = msgspec.json.Decoder(list[int])
_lanes = msgspec.json.Decoder(list[str | None])


class _Live:
    """One claim as it stands in the store."""

    __slots__ = ("alone", "fence", "ids", "lanes", "until")

    def __init__(self, fence: int, until: int, alone: int, ids: str, lanes: str) -> None:
        self.fence = fence
        self.until = until
        self.alone = alone
        self.ids = _ids.decode(ids)
        self.lanes = _lanes.decode(lanes)


class _Choice:
    """What one claim would take, and what stands in its way."""

    __slots__ = ("alone", "lanes", "parked", "taken")

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.lanes: list[str | None] = []
        self.parked: list[int] = []
        self.alone = False


def take_turn(connection: sqlite3.Connection, cycle: Cycle, now: int, *, expired_at: int) -> Turn:
    """Finish, renew, end what had expired by then, claim: one transaction, the caller's."""
    until = now + round(cycle.lease_s * 1_000_000)
    live = {row[0]: _Live(*row) for row in connection.execute(CLAIMS)}
    freed: set[str] = set()
    lost = [f.fence for f in cycle.finished if f.fence not in live]
    for finish in cycle.finished:
        if finish.fence in live:
            freed.update(_finish(connection, live, finish, now, until))
    for fence in cycle.renew:
        if fence in live:
            live[fence].until = until
            connection.execute(RENEW_CLAIM, (until, fence))
        elif fence not in lost and all(f.fence != fence for f in cycle.finished):
            lost.append(fence)
    for claim in [c for c in live.values() if c.until <= expired_at]:
        freed.update(_lose(connection, claim))
        del live[claim.fence]
    wake_lanes(connection, freed)
    if cycle.want <= 0:
        return Turn(claim=None, lost=lost)
    connection.execute(FALL_DUE, (now,))
    return Turn(claim=_claim(connection, live, cycle.want, until), lost=lost)


def lose_all(connection: sqlite3.Connection) -> int:
    """End every claim as lost; returns how many there were."""
    live = [_Live(*row) for row in connection.execute(CLAIMS)]
    freed: set[str] = set()
    for claim in live:
        freed.update(_lose(connection, claim))
    wake_lanes(connection, freed)
    return len(live)


def claimable_now(connection: sqlite3.Connection) -> bool:
    """Whether a turn would get further: claim what is marked as due, or park. Only reads."""
    live = [_Live(*row) for row in connection.execute(CLAIMS)]
    choice = _choose(connection, live, 1)
    return bool(choice.taken) or len(choice.parked) >= PARKED_AT_MOST


def wake_lanes(connection: sqlite3.Connection, lanes: Iterable[str]) -> None:
    """Let the first entry of each lane be looked at again, after the lane was freed."""
    keys = [(lane,) for lane in lanes]
    if keys and connection.execute(ANY_PARKED).fetchone() is not None:
        connection.executemany(WAKE, keys)


def _finish(
    connection: sqlite3.Connection, live: dict[int, _Live], finish: Finish, now: int, until: int
) -> Iterator[str]:
    """Record what became of a claim's entries; gives the lanes that it frees."""
    claim = live[finish.fence]
    held = set(claim.ids)
    done = [i for i in finish.done if i in held]
    if done:
        connection.execute(DONE, (_text(done),))
    for again, attempts in ((finish.retries, 1), (finish.postponed, 0)):
        for i, (at, error) in again.items():
            if i in held:
                run_at = microseconds(at)
                waits = LATER if run_at > now else DUE
                connection.execute(RETRY, (waits, run_at, error, attempts, i))
    for i, error in finish.dead.items():
        if i in held:
            connection.execute(DEAD_LETTER, (int(i in finish.holding), error, i))
    gone = {*done, *finish.retries, *finish.dead, *finish.returned, *finish.postponed}
    before = claim.lanes
    rest = [(i, lane) for i, lane in zip(claim.ids, before, strict=True) if i not in gone]
    claim.ids, claim.lanes = [i for i, _ in rest], [lane for _, lane in rest]
    if rest:
        claim.until = until
        row = (until, _text(claim.ids), _text(claim.lanes), claim.fence)
        connection.execute(KEEP_CLAIM, row)
    else:
        connection.execute(END_CLAIM, (claim.fence,))
        del live[claim.fence]
    kept = set(claim.lanes)
    return (lane for lane in before if lane is not None and lane not in kept)


def _lose(connection: sqlite3.Connection, claim: _Live) -> Iterator[str]:
    """End a claim as lost; gives the lanes that it frees."""
    alone = LOST_ALONE if claim.alone else LOST_IN_BATCH
    connection.execute(LOSE, (alone, _LOST, _text(claim.ids)))
    connection.execute(END_CLAIM, (claim.fence,))
    return (lane for lane in claim.lanes if lane is not None)


def _claim(
    connection: sqlite3.Connection, live: dict[int, _Live], want: int, until: int
) -> Claim | None:
    choice = _choose(connection, live.values(), want)
    if choice.parked:
        connection.execute(PARK, (_text(choice.parked),))
    if not choice.taken:
        return None
    ids = _text(choice.taken)
    row = (until, int(choice.alone), ids, _text(choice.lanes))
    fence = connection.execute(ADD_CLAIM, row).lastrowid
    assert fence is not None
    found = {
        i: Claimed(
            id=i,
            message_id=message_id,
            handler=handler,
            generation=generation,
            lane=lane,
            attempt=attempts + 1,
            alone=bool(alone),
            body=body,
            suspect=alone == LOST_ALONE,
        )
        for i, message_id, handler, generation, lane, attempts, alone, body in connection.execute(
            ENTRIES, (ids,)
        )
    }
    return Claim(fence=fence, entries=[found[i] for i in choice.taken])


def _choose(connection: sqlite3.Connection, live: Iterable[_Live], want: int) -> _Choice:
    """Choose what to claim, by priority, then id; a lane's run stands where its first stands.

    Blocked rows that are met on the way are to be parked. The first row of a
    free lane never is, or nobody would wake the lane.
    """
    flying: set[int] = set()
    busy: set[str | None] = set()
    loner = False
    for claim in live:
        flying.update(claim.ids)
        busy.update(claim.lanes)
        loner = loner or bool(claim.alone)
    busy.discard(None)
    held = connection.execute(ANY_HELD).fetchone() is not None
    choice = _Choice()
    passed: set[str] = set()
    for i, lane, alone in connection.execute(SCAN):
        if len(choice.parked) >= PARKED_AT_MOST:
            break
        if i in flying:
            continue
        if lane is None:
            run, alone_run = [i], bool(alone)
        elif lane in passed:
            continue
        elif lane in busy or (held and connection.execute(HELD, (lane,)).fetchone()):
            choice.parked.append(i)
            continue
        else:
            run, alone_run = _run_of(connection, lane, want - len(choice.taken))
            if not run or (run[0] != i and alone_run):
                choice.parked.append(i)
                continue
            passed.add(lane)
        if alone_run:
            if loner or choice.taken:
                continue
            choice.alone = True
        choice.taken += run
        choice.lanes += [lane] * len(run)
        if alone_run or len(choice.taken) >= want:
            break
    return choice


def _run_of(connection: sqlite3.Connection, lane: str, limit: int) -> tuple[list[int], bool]:
    """The entries at the front of a free lane that may be worked now, and whether it is one alone.

    An entry that is not due yet blocks those behind it; one that runs alone
    ends the run before it, or is the whole of it.
    """
    run: list[int] = []
    for i, waits, alone in connection.execute(LANE, (lane, limit)):
        if waits == LATER or (alone and run):
            break
        run.append(i)
        if alone:
            return run, True
    return run, False


def _text(values: object) -> str:
    return _json.encode(values).decode()
