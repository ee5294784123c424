"""Turns at a module's queue, as the functions in its schema take them. See `turns`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

from tenfold.adapters.postgres.turns import LOST_ALONE
from tenfold.ports.records import Claim, Claimed, Cycle, Finish, Turn

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["TAKE_TURN", "read_turn", "turn_values", "wake_lanes"]

TAKE_TURN: Final = """
SELECT * FROM {s}.tenfold_turn_2($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
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


def read_turn(row: Any) -> Turn:
    """A turn from the row that `TAKE_TURN` returned, with a list for each column."""
    fence, lost, alone, ids, *columns = row
    if fence is None:
        return Turn(claim=None, lost=lost)
    message_ids, handlers, generations, lanes, attempts, bodies = columns
    if alone or any(attempts):
        entries = [
            Claimed(
                i,
                message,
                handler,
                generation,
                lane,
                before + 1,
                body,
                alone != 0,
                alone == LOST_ALONE,
            )
            for i, message, handler, generation, lane, before, body in zip(
                ids, *columns, strict=True
            )
        ]
    else:
        entries = list(
            map(Claimed, ids, message_ids, handlers, generations, lanes, repeat(1), bodies)
        )
    return Turn(claim=Claim(fence=fence, entries=entries), lost=lost)


async def wake_lanes(connection: Connection, schema: str, lanes: Iterable[str]) -> None:
    """Let the first entry of each lane be looked at again, after the lane was freed.

    Args:
        schema: quoted.
    """
    freed = list(lanes)
    if freed:
        await connection.execute(_WAKE.format(s=schema), freed)
