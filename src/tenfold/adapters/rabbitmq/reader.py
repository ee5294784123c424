"""A reader of RabbitMQ's streams: one channel, with a consumer for each partition."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from tenfold.adapters.rabbitmq.link import FAILURES, Link, stream_of
from tenfold.adapters.rabbitmq.records import is_mark, offset_of, read_record
from tenfold.ports.broker import BrokerUnavailableError, Record

__all__ = ["RabbitReader"]

_PREFETCH: Final = 64
"""Records of each partition that may lie here untaken."""
_LOOK_S: Final = 1.0


class _Attachment:
    """A channel with its consumers, as long as it lasts."""

    def __init__(self, channel: AbstractChannel) -> None:
        self.channel = channel
        self.ready = False
        self.cancelled = False

    @property
    def lasts(self) -> bool:
        return self.ready and not self.cancelled and not self.channel.is_closed


class RabbitReader:
    """Implements `Reader`.

    Its place is kept here and not by the server, so that after a lost connection it goes
    on where it was. What is acknowledged to the server is only that there is room again.
    """

    def __init__(self, link: Link, topic: str, offsets: Sequence[int]) -> None:
        self._link = link
        self._topic = topic
        self._next = list(offsets)
        self._attached: _Attachment | None = None
        self._attaching: asyncio.Future[None] | None = None
        self._held: deque[tuple[AbstractIncomingMessage, Record | None]] = deque()
        self._arrived = asyncio.Event()
        self._closed = False

    async def take(self, *, wait_s: float, most: int = 500) -> Sequence[Record]:
        """See `Reader.take`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            self._arrived.clear()
            if self._closed:
                raise BrokerUnavailableError(f"The reader of topic {self._topic!r} was closed.")
            if not self._held and (self._attached is None or not self._attached.lasts):
                await self._attach()
            if self._held:
                count = min(most, len(self._held))
                await self._make_room(count)
                # Nothing is awaited between what is taken out here and its return.
                taken = [self._held.popleft()[1] for _ in range(count)]
                found = [each for each in taken if each is not None]
                if found:
                    return found
                continue
            left_s = until - loop.time()
            if left_s <= 0:
                return []
            try:
                async with asyncio.timeout(min(left_s, _LOOK_S)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    async def _make_room(self, count: int) -> None:
        """Let the server send as many more as are about to be taken."""
        message, _ = self._held[count - 1]
        attached = self._attached
        if attached is None or not attached.lasts or message.processed:
            return
        try:
            async with self._link.bounded():
                await message.ack(multiple=True)
        except BrokerUnavailableError:
            return  # the next call finds that out, and these records are good all the same

    async def _attach(self) -> None:
        """Read on at the place over a new channel; a cancelled call leaves that to go on."""
        if self._attaching is None:
            self._attaching = asyncio.ensure_future(self._link.whole(self._attach_whole()))
        attaching = self._attaching
        try:
            await asyncio.shield(attaching)
        finally:
            if attaching.done():
                self._attaching = None

    async def _attach_whole(self) -> None:
        await self._detach()
        channel = await self._link.channel()
        attached = self._attached = _Attachment(channel)
        async with self._link.bounded():
            await channel.set_qos(prefetch_count=_PREFETCH)
            for partition, offset in enumerate(self._next):
                name = stream_of(self._topic, partition)
                queue = await channel.get_queue(name, ensure=False)
                await queue.consume(
                    self._receiving(attached, partition), arguments={"x-stream-offset": offset}
                )
        attached.ready = True

    def _receiving(
        self, attached: _Attachment, partition: int
    ) -> Callable[[AbstractIncomingMessage], Awaitable[None]]:
        async def receive(message: AbstractIncomingMessage) -> None:
            if self._attached is not attached:
                return  # of a channel that was given up
            record = None if is_mark(message) else read_record(message, partition)
            self._next[partition] = offset_of(message) + 1
            self._held.append((message, record))
            self._arrived.set()

        return receive

    async def _detach(self) -> None:
        attached, self._attached = self._attached, None
        if attached is None or attached.channel.is_closed:
            return
        try:
            async with asyncio.timeout(self._link.timeout_s):
                await attached.channel.close()
        except FAILURES:
            return  # it was lost meanwhile

    async def close(self) -> None:
        """See `Reader.close`."""
        self._closed = True
        self._held.clear()
        self._arrived.set()
        if self._attaching is not None:
            await asyncio.wait([self._attaching])  # which is bounded
            if not self._attaching.cancelled():
                self._attaching.exception()  # nobody waits for it any more
            self._attaching = None
        await self._detach()
