"""Turns at a module's queue, as the functions in its schema take them. See `turns`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from tenfold.adapters.postgres.turns import LOST_ALONE
from tenfold.ports.records import Claim, Claimed, Cycle, Finish, Turn

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["TAKE_TURN", "read_turn", "turn_values", "wake_lanes"]

TAKE_TURN: Final = """
SELECT * FROM {s}.tenfold_turn_1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
"""
_WAKE: Final = "SELECT {s}.tenfold_wake_1($1)"


def turn_values(cycle: Cycle, now: datetime) -> tuple[Any, ...]:
    """What `TAKE_TURN` takes after two moments: when it was asked for, and the present one.

    Args:
        now: the present moment on the clock that the finishes go by.
    """
    done: list[int] = []
    ends: list[int] = []
    fences: list[int] = []
    ids: list[int] = []
    what: list[str] = []
    after: list[timedelta | None] = []
    errors: list[str | None] = []
    for finish in cycle.finished:
        done += sorted(finish.done)
        ends.append(len(done))
        for i, kind, moment, error in _others(finish):
            fences.append(finish.fence)
            ids.append(i)
            what.append(kind)
            after.append(None if moment is None else moment - now)
            errors.append(error)
    finished = [finish.fence for finish in cycle.finished]
    others = (fences, ids, what, after, errors)
    return (cycle.lease_s, cycle.want, finished, done, ends, *others, cycle.renew)


def _others(finish: Finish) -> Iterable[tuple[int, str, datetime | None, str | None]]:
    """What became of a claim's entries other than those that are done."""
    for i, (at, error) in finish.retries.items():
        yield i, "retry", at, error
    for i, (at, error) in finish.postponed.items():
        yield i, "postpone", at, error
    for i, error in finish.dead.items():
        yield i, "hold" if i in finish.holding else "dead", None, error
    for i in finish.returned:
        yield i, "return", None, None


def read_turn(rows: list[Any]) -> Turn:
    """A turn from what `TAKE_TURN` returned: its head, then the entries in order."""
    fence, lost = rows[0][0], rows[0][1]
    if fence is None:
        return Turn(claim=None, lost=lost)
    entries = [
        Claimed(
            id=i,
            message_id=message_id,
            handler=handler,
            generation=generation,
            lane=lane,
            attempt=attempts + 1,
            alone=alone != 0,
            body=body,
            suspect=alone == LOST_ALONE,
        )
        for _, _, i, message_id, handler, generation, lane, attempts, alone, body in rows[1:]
    ]
    return Turn(claim=Claim(fence=fence, entries=entries), lost=lost)


async def wake_lanes(connection: Connection, schema: str, lanes: Iterable[str]) -> None:
    """Let the first entry of each lane be looked at again, after the lane was freed.

    Args:
        schema: quoted.
    """
    freed = list(lanes)
    if freed:
        await connection.execute(_WAKE.format(s=schema), freed)
