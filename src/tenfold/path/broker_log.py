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
from tenfold.path.broker_places import seek, tails
from tenfold.path.cloud_events import CloudEventCodec
from tenfold.path.packs import decide_passage, read_mark
from tenfold.ports.broker import Broker, Reader, Record, TopicSettings
from tenfold.ports.outbox import Log
from tenfold.ports.records import OutboxPage, OutboxRow

__all__ = ["BrokerLog", "BrokerLogParts"]

_log = logging.getLogger("tenfold.broker_log")
_MOST_ROWS: Final = 5_000
"""Rows that wait to be read before no more are taken, unless that is what it takes to go on."""
_MOST_CURSORS: Final = 4
"""Places that are read through the broker at once; who has another one reads the log."""
_MOST_RECORDS: Final = 16
"""Packs that are taken at once."""
_TAKE_S: Final = 30.0
_AGAIN_S: Final = (0.05, 2.0)
_STILL_S: Final = 10.0
"""After how long without news it is looked whether there should have been some, and after
how long nobody has asked for a place that it is not kept open any more."""


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
        self._before = 0
        """Up to where only the log has everything, as was seen when that was looked for."""

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
        if cursor is None and after >= self._before:
            cursor = await self._open(after)
        if cursor is None:
            return await self._read_log(after, names, limit)
        cursor.drop(after)
        page = cursor.page(after, frozenset(names), limit)
        if page is None:  # the broker lacks what comes next: the log has it
            await self._close(cursor)
            return await self._read_log(after, names, limit)
        if (
            page.position == after
            and cursor.stands_still()
            and await self._parts.log.head() > after
        ):
            # The publisher may be away, or the topic was made anew, with its offsets.
            _log.warning(
                "For %g s nothing of %s has come from the broker, whose log has more: it is read "
                "there. See that whoever hosts %s runs, and what it says of the broker.",
                _STILL_S,
                self._parts.module,
                self._parts.module,
            )
            await self._close(cursor)
            return await self._read_log(after, names, limit)
        if cursor.ends_at(page.position):
            self._parts.on_news()
        return page

    async def _read_log(self, after: int, names: Sequence[str], limit: int) -> OutboxPage:
        page = await self._parts.log.read(after, names, limit)
        if page.position > after and len(page.rows) < limit:
            # It has come to the end. Only who waits at the broker is told of what comes next.
            self._parts.on_news()
        return page

    async def rest(self) -> None:
        """Give back what it holds of the broker; the next read begins anew."""
        self._before = 0
        while self._cursors:
            await self._close(self._cursors[-1])

    async def _open(self, after: int) -> _Cursor | None:
        """A cursor at a position; None where the broker does not have all that follows it."""
        parts = self._parts
        for idle in [each for each in self._cursors if each.idle()]:
            await self._close(idle)
        if len(self._cursors) >= _MOST_CURSORS:
            return None
        epoch = await parts.log.epoch()
        await parts.broker.ensure(parts.topic, parts.topics)
        found = await seek(parts.broker, parts.topic, after, epoch)
        if found.offsets is None:
            self._before = found.before
            return None
        if found.ends and await self._forgot(found.ends, epoch):
            head = await parts.log.head()
            if head > after:
                self._before = head
                return None
        reader = await parts.broker.reader(parts.topic, found.offsets)
        cursor = _Cursor(parts, reader, epoch, after, len(found.offsets))
        self._cursors.append(cursor)
        return cursor

    async def _forgot(self, ends: frozenset[int], epoch: str) -> bool:
        """Whether nothing tells, in some partition at whose end a reader would wait, how far it
        is published: the topic is new, or all was forgotten by age. What is in the log already
        may then never come."""
        newest, _ = await tails(self._parts.broker, self._parts.topic)
        marks = [newest[n] for n in ends]
        return any(mark is None or mark.epoch != epoch for mark in marks)

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
        self._asked_s = self._moved_s = asyncio.get_running_loop().time()
        self._room = asyncio.Event()
        self._room.set()
        self._task = asyncio.create_task(self._pump(), name=f"broker log of {parts.module}")

    def covers(self, after: int) -> bool:
        """Whether it has all that follows a position."""
        return self._base <= after <= max(self._given, self._base)

    def stands_still(self) -> bool:
        """Whether it has not come on for long; true once, then not for as long again."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._moved_s < _STILL_S:
            return False
        self._moved_s = now_s
        return True

    def ends_at(self, position: int) -> bool:
        """Whether nothing comes from here after a position, since something is missing there."""
        return self._gap and position >= min(self._reached)

    def idle(self) -> bool:
        """Whether nobody has asked for its place for long."""
        return asyncio.get_running_loop().time() - self._asked_s > _STILL_S

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
        self._asked_s = asyncio.get_running_loop().time()
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
        if position > after:
            self._moved_s = self._asked_s
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
            except Exception as error:  # whatever an adapter raises: nothing else would go on
                failures += 1
                _log.warning(
                    "The events of %s could not be read from the broker; it goes on at the same "
                    "place. %s",
                    self._parts.module,
                    error_text(error),
                    exc_info=None if isinstance(error, TenfoldError) else error,
                )
                await asyncio.sleep(min(_AGAIN_S[0] * 2.0**failures, _AGAIN_S[1]))
                continue
            before = min(self._reached)
            for record in records:
                self._add(record)
            self._make_room()
            if min(self._reached) > before:
                self._moved_s = asyncio.get_running_loop().time()
            if self._gap or min(self._reached) > before:
                self._parts.on_news()

    def _add(self, record: Record) -> None:
        """Take in one pack. After a gap nothing more is: its partition stands still."""
        partition = record.partition
        mark = read_mark(record.headers)
        if mark is None or mark.epoch != self._epoch or self._gap:
            return
        reached = self._reached[partition]
        passage = decide_passage(reached, len(self._reached), mark)
        if passage == "gap":
            _log.error(
                "The broker lacks events of %s between %d and %d: it lost them, did not keep them "
                "for long enough, or could not take them. They are read from the log of %s itself. "
                "See the broker's durability, `retain_s`, and what the publisher says.",
                self._parts.module,
                reached,
                mark.after,
                self._parts.module,
            )
            self._gap = True
        elif passage == "grown":
            _log.warning(
                "Topic %s is read in %d partitions, and its publisher has put events of %s into "
                "%d. What has come in between is read from the log of %s itself.",
                self._parts.topic,
                len(self._reached),
                self._parts.module,
                mark.of,
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
