"""The log of another service's module, as a subscriber reads it through the broker.

Implements `Log`: what is new comes from the broker, in the order of the module's own
log, and what the broker does not keep any more, or never had, comes from that log
itself. A relay follows it as it follows any other, with the same positions.

    partitions ──take──> packs ──decode──> rows, merged by position up to the least reached
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.structs import Struct
from tenfold.path.attempts import error_text
from tenfold.path.cloud_events import CloudEventCodec
from tenfold.path.packs import Mark, decide_passage, read_mark
from tenfold.ports.broker import Bounds, Broker, Reader, Record, TopicSettings
from tenfold.ports.outbox import Log
from tenfold.ports.records import OutboxPage, OutboxRow

__all__ = ["BrokerLog", "BrokerLogParts"]

_log = logging.getLogger("tenfold.broker_log")
_MOST_ROWS: Final = 5_000
"""Rows that wait to be read before no more are taken, unless that is what it takes to go on."""
_MOST_CURSORS: Final = 4
_MOST_RECORDS: Final = 16
"""Packs that are taken at once."""
_TAKE_S: Final = 30.0
_PROBE_S: Final = 5.0
_AGAIN_S: Final = (0.05, 2.0)
_STILL_S: Final = 10.0
"""After how long without news it is looked whether there should have been some."""


class BrokerLogParts(Struct):
    """What it reads with.

    `topics` say how the topic is made where it is not there yet. `log` is the module's
    own. `names` are the events that are of interest: all others are left out where they
    come in. `on_news` is called when there is more to read.
    """

    module: str
    topic: str
    topics: TopicSettings
    broker: Broker
    log: Log
    codec: CloudEventCodec
    names: frozenset[str]
    on_news: Callable[[], None]


class BrokerLog:
    """Reads a few places of the log at once: one for each group of feeds that has its own."""

    def __init__(self, parts: BrokerLogParts) -> None:
        self._parts = parts
        self._cursors: list[_Cursor] = []

    async def epoch(self) -> str:
        """See `Log.epoch`: the module's own log says."""
        return await self._parts.log.epoch()

    async def head(self) -> int:
        """See `Log.head`: the module's own log says; the broker may not have come so far."""
        return await self._parts.log.head()

    async def floor(self) -> int:
        """See `Log.floor`: the module's own log says."""
        return await self._parts.log.floor()

    async def count(self, names: Sequence[str], after: int, up_to: int, most: int) -> int:
        """See `Log.count`: of the module's own log, whether the broker has them or not."""
        return await self._parts.log.count(names, after, up_to, most)

    async def read(self, after: int, names: Sequence[str], limit: int) -> OutboxPage:
        """What has come from the broker after a position. See `Log.read`.

        Raises: BrokerUnavailableError where a place cannot be found; what the log raises.
        """
        cursor = next((each for each in self._cursors if each.covers(after)), None)
        if cursor is None:
            cursor = await self._open(after)
            if cursor is None:
                return await self._parts.log.read(after, names, limit)
        cursor.drop(after)
        page = cursor.page(after, frozenset(names), limit)
        if page is None:  # the broker lacks what comes next: the log has it
            await self._close(cursor)
            return await self._parts.log.read(after, names, limit)
        if not page.rows and cursor.stands_still() and await self._parts.log.head() > after:
            # The topic may have been made anew, with offsets from the beginning.
            await self._close(cursor)
            self._parts.on_news()
        return page

    async def rest(self) -> None:
        """Give back what it holds of the broker; the next read begins anew."""
        while self._cursors:
            await self._close(self._cursors[-1])

    async def _open(self, after: int) -> _Cursor | None:
        """A cursor at a position; None where the broker does not have all that follows it."""
        parts = self._parts
        epoch = await parts.log.epoch()
        await parts.broker.ensure(parts.topic, parts.topics)
        bounds = await parts.broker.bounds(parts.topic)
        found = await _seek(parts.broker, parts.topic, bounds, after, epoch)
        if found is None:
            return None
        reader = await parts.broker.reader(parts.topic, found)
        cursor = _Cursor(parts, reader, epoch, after, len(found))
        while len(self._cursors) >= _MOST_CURSORS:
            await self._close(self._cursors[0])
        self._cursors.append(cursor)
        return cursor

    async def _close(self, cursor: _Cursor) -> None:
        self._cursors.remove(cursor)
        await cursor.close()


class _Cursor:
    """One place in the log: what has come since, merged from the partitions."""

    def __init__(
        self, parts: BrokerLogParts, reader: Reader, epoch: str, after: int, partitions: int
    ) -> None:
        self._parts = parts
        self._reader = reader
        self._epoch = epoch
        self._base = self._given = after
        self._reached = [after] * partitions
        self._rows: list[deque[OutboxRow]] = [deque() for _ in range(partitions)]
        self._count = 0
        self._gap = False
        self._moved_s = asyncio.get_running_loop().time()
        self._room = asyncio.Event()
        self._room.set()
        self._task = asyncio.create_task(self._pump(), name=f"broker log of {parts.module}")

    def covers(self, after: int) -> bool:
        """Whether it has all that follows a position."""
        return self._base <= after <= max(self._given, self._base)

    def stands_still(self) -> bool:
        """Whether nothing has come for long; true once, then not for as long again."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._moved_s < _STILL_S:
            return False
        self._moved_s = now_s
        return True

    def drop(self, upto: int) -> None:
        """Forget what was delivered: the reader has come to `upto`."""
        self._base = max(self._base, upto)
        for rows in self._rows:
            while rows and rows[0].seq <= upto:
                rows.popleft()
                self._count -= 1
        self._make_room()

    def page(self, after: int, names: frozenset[str], limit: int) -> OutboxPage | None:
        """The next rows of these names; None where something is missing before the next."""
        ready = min(self._reached)
        rows: list[OutboxRow] = []
        for row in heapq.merge(*self._rows, key=lambda row: row.seq):
            if row.seq > ready or len(rows) >= limit:
                break
            if row.name in names:
                rows.append(row)
        position = rows[-1].seq if len(rows) >= limit else max(ready, after)
        if not rows and position == after and self._gap:
            return None
        self._given = max(self._given, position)
        return OutboxPage(rows=rows, position=position)

    async def close(self) -> None:
        """End it."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._reader.close()

    async def _pump(self) -> None:
        failures = 0
        while not self._gap:
            try:
                await self._room.wait()
                records = await self._reader.take(wait_s=_TAKE_S, most=_MOST_RECORDS)
                failures = 0
            except TenfoldError as error:
                failures += 1
                _log.warning(
                    "The events of %s could not be read from the broker; it goes on at the same "
                    "place. %s",
                    self._parts.module,
                    error_text(error),
                )
                await asyncio.sleep(min(_AGAIN_S[0] * 2.0**failures, _AGAIN_S[1]))
                continue
            if records:
                self._moved_s = asyncio.get_running_loop().time()
            before = min(self._reached)
            for record in records:
                self._add(record)
            self._make_room()
            if self._gap or min(self._reached) > before:
                self._parts.on_news()

    def _add(self, record: Record) -> None:
        """Take in one pack. After a gap nothing more is: its partition stands still."""
        partition = record.partition
        mark = read_mark(record.headers)
        if mark is None or mark.epoch != self._epoch or self._gap:
            return
        reached = self._reached[partition]
        passage = decide_passage(reached, mark)
        if passage == "gap":
            _log.error(
                "The broker lacks events of %s between %d and %d, which it had acknowledged or "
                "did not keep for long enough. They are read from the log of %s itself. See the "
                "broker's durability and `retain_s`.",
                self._parts.module,
                reached,
                mark.after,
                self._parts.module,
            )
            self._gap = True
        elif passage == "new":
            try:
                rows = self._parts.codec.decode(record.body, self._parts.names)
            except msgspec.DecodeError as error:
                _log.error(
                    "A record of %s is no batch of events (partition %d, offset %d): %s. What it "
                    "stood for is read from the log of %s itself.",
                    self._parts.topic,
                    partition,
                    record.offset,
                    error,
                    self._parts.module,
                )
                self._gap = True
                return
            fresh = [row for row in rows if reached < row.seq <= mark.upto]
            self._rows[partition].extend(fresh)
            self._count += len(fresh)
            self._reached[partition] = mark.upto

    def _make_room(self) -> None:
        # Where nothing can be read before more has come, more is taken, however much there is.
        waits = self._count >= _MOST_ROWS and min(self._reached) > self._base
        if waits:
            self._room.clear()
        else:
            self._room.set()


async def _seek(
    broker: Broker, topic: str, bounds: Sequence[Bounds], after: int, epoch: str
) -> list[int] | None:
    """The offset of each partition from which on all that follows a position is there.

    Bisects, with one record read of each partition at every step, since offsets say nothing
    of positions.

    Returns: None where the first that is kept begins later.
    """
    low = [each.first for each in bounds]
    high = [each.after for each in bounds]
    # The pack at `low` or before it begins at or below the position; that at `high` ends above.
    open_ = {n for n in range(len(bounds)) if low[n] < high[n]}
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
    return None if await _lacks(broker, topic, bounds, high, after, epoch) else high


def _passes(mark: Mark | None, after: int, epoch: str) -> bool:
    return mark is not None and mark.epoch == epoch and mark.upto > after


async def _lacks(
    broker: Broker,
    topic: str,
    bounds: Sequence[Bounds],
    offsets: Sequence[int],
    after: int,
    epoch: str,
) -> bool:
    """Whether what follows a position is not all in what begins at these offsets."""
    there = {n for n, each in enumerate(bounds) if offsets[n] < each.after}
    found = await _probe(broker, topic, offsets, there)
    for record in found.values():
        mark = read_mark(record.headers)
        if mark is not None and mark.epoch == epoch and mark.after > after:
            return True
    return False


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
