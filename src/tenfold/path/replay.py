"""Replay: events of the past, once more into one subscription, while all others go on.

Each replay is a run with a number of its own, which stands where the generation does: the
inbox tells its effects from those that the events had at first, and a run that was broken
off may be begun again without having any of its effects twice.
"""

from __future__ import annotations

from datetime import datetime

from tenfold.contracts.structs import Struct
from tenfold.path.background import HandlerSpec
from tenfold.path.carrying import decide_entries
from tenfold.path.module import ModuleRuntime
from tenfold.ports.outbox import Log
from tenfold.ports.transfer import Follower

__all__ = ["Bite", "find_position", "replay_bite"]


class Bite(Struct):
    """What one bite of a replay did: how far it went, and how many entries it added."""

    position: int
    added: int


async def find_position(outbox: Log, event: str, since: datetime) -> int:
    """The position after which the events of one name are that were published since a moment.

    Found by halves, since positions grow with time, as near as the clocks of those who
    publish agree.
    """
    low, high = await outbox.floor(), await outbox.head()
    while low < high:
        middle = (low + high) // 2
        page = await outbox.read(middle, [event], 1)
        if not page.rows or page.rows[0].at >= since:
            high = middle
        else:
            low = page.rows[0].seq
    return low


async def replay_bite(
    module: ModuleRuntime,
    spec: HandlerSpec,
    source: str,
    outbox: Log,
    event: str,
    *,
    run: int,
    after: int,
    upto: int,
    limit: int,
) -> Bite:
    """Put up to `limit` events after a position, none after `upto`, into a module's queue.

    Args:
        spec: the subscription's handler.
        source: the module that publishes.
        event: the event's full name.
        run: the replay's number.
    """
    page = await outbox.read(after, [event], limit)
    rows = [row for row in page.rows if row.seq <= upto]
    follower = Follower(
        handler=spec.name,
        generation=run,
        subscriber=spec.name,
        events=(event,),
        priority=spec.background.priority,
    )
    added = await module.queue.add(decide_entries(source, [follower], rows)) if rows else 0
    whole = len(rows) < limit or len(rows) < len(page.rows)
    return Bite(position=upto if whole else rows[-1].seq, added=added)
