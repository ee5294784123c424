"""Where in a topic's partitions a place of a module's log lies.

Offsets say nothing of places: what a record stands for is read from its mark.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from tenfold.contracts.structs import Struct
from tenfold.path.packs import Mark, read_mark
from tenfold.ports.broker import Broker, Record

__all__ = ["Sought", "seek", "tails"]

_PROBE_S: Final = 5.0


class Sought(Struct):
    """Where to read on in each partition, so that all that follows a place comes.

    `ends` are the partitions that have nothing there yet. Where the broker does not have all
    that follows, `offsets` is None, and up to `before` only the log itself has it.
    """

    offsets: list[int] | None
    ends: frozenset[int] = frozenset()
    before: int = 0


async def tails(broker: Broker, topic: str) -> tuple[list[Mark | None], bool]:
    """The newest mark of each partition, and whether the topic never had a record.

    Raises: BrokerUnavailableError.
    """
    bounds = await broker.bounds(topic)
    there = {n for n, each in enumerate(bounds) if each.after > each.first}
    offsets = [max(each.first, each.after - 1) for each in bounds]
    found = await _probe(broker, topic, offsets, there)
    marks = [read_mark(found[n].headers) if n in found else None for n in range(len(bounds))]
    return marks, all(each.after == 0 for each in bounds)


async def seek(broker: Broker, topic: str, after: int, epoch: str) -> Sought:
    """The offset of each partition from which on all that follows a place is there.

    Looks at the first records that are kept, then bisects, with one record read of each
    partition at every step.

    Raises: BrokerUnavailableError.
    """
    bounds = await broker.bounds(topic)
    low = [each.first for each in bounds]
    high = [each.after for each in bounds]
    # The pack at `low` or before it begins at or below the place; that at `high` ends above.
    open_ = {n for n in range(len(bounds)) if low[n] < high[n]}
    firsts = await _probe(broker, topic, low, open_)
    before = _begin(firsts.values(), epoch)
    if before > after:
        return Sought(offsets=None, before=before)
    while open_:
        middle = [
            (low[n] + high[n]) // 2 if n in open_ else each.after for n, each in enumerate(bounds)
        ]
        found = await _probe(broker, topic, middle, open_)
        for n in sorted(open_):
            record = found.get(n)
            mark = None if record is None else read_mark(record.headers)
            if record is None or record.offset >= high[n] or _passes(mark, after, epoch):
                high[n] = middle[n]
            else:
                low[n] = record.offset + 1
            if low[n] >= high[n]:
                open_.discard(n)
    there = {n for n, each in enumerate(bounds) if high[n] < each.after}
    nexts = await _probe(broker, topic, high, there)
    before = _begin(nexts.values(), epoch)
    if before > after:
        return Sought(offsets=None, before=before)
    return Sought(offsets=high, ends=frozenset(range(len(bounds))) - there)


def _passes(mark: Mark | None, after: int, epoch: str) -> bool:
    return mark is not None and mark.epoch == epoch and mark.upto > after


def _begin(records: Iterable[Record], epoch: str) -> int:
    """From which place on all of these partitions have what their records stand for."""
    marks = (read_mark(record.headers) for record in records)
    return max((m.after for m in marks if m is not None and m.epoch == epoch), default=0)


async def _probe(
    broker: Broker, topic: str, offsets: Sequence[int], wanted: set[int]
) -> dict[int, Record]:
    """The first record of each of these partitions from an offset on."""
    found: dict[int, Record] = {}
    if not wanted:
        return found
    reader = await broker.reader(topic, offsets)
    try:
        loop = asyncio.get_running_loop()
        until = loop.time() + _PROBE_S
        while wanted - found.keys() and (left_s := until - loop.time()) > 0:
            for record in await reader.take(wait_s=left_s):
                if record.partition in wanted:
                    found.setdefault(record.partition, record)
    finally:
        await reader.close()
    return found
