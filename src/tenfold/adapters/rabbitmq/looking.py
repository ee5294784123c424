"""Where a stream begins and ends: RabbitMQ has no word for that, so a little of it is read.

What a channel is sent before the answer to a question that was asked afterwards is all
that there was. Only of an empty stream nothing comes, which cannot be told from one that is
slow: then a mark is written into it, and from then on something comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError

from tenfold.adapters.rabbitmq.link import Link
from tenfold.adapters.rabbitmq.records import MARK, is_mark, offset_of, written
from tenfold.contracts.structs import Struct

__all__ = ["Look", "Seen"]

_AT_ONCE: Final = 200
_EMPTY_S: Final = 0.3
"""After so long a stream is taken for an empty one. Too early costs a mark, and nothing else."""
_BACK: Final = 64
_STEPS: Final = 4
"""Turns of the loop until a message that has come is handed over: the library needs two."""


class Seen(Struct):
    """What was seen of a stream: its first record and the end, by offset; equal if it has none."""

    first: int
    after: int


class Look:
    """Looks at one stream, over a channel that is closed afterwards."""

    def __init__(self, link: Link, channel: AbstractChannel, stream: str) -> None:
        self._link = link
        self._channel = channel
        self._stream = stream

    async def bounds(self) -> Seen:
        """Where its records begin and end."""
        start = await self.first_message()
        last = await self._last_messages()
        end = offset_of(last[-1])
        after = next((offset_of(each) + 1 for each in reversed(last) if not is_mark(each)), None)
        back = _BACK
        while after is None and offset_of(last[0]) > offset_of(start):
            low = max(offset_of(last[0]) - back, offset_of(start))
            last = await self._between(low, offset_of(last[0]))
            after = next((offset_of(e) + 1 for e in reversed(last) if not is_mark(e)), None)
            back *= 2
        if after is None:  # nothing but marks
            nothing = 0 if offset_of(start) == 0 else end + 1
            return Seen(first=nothing, after=nothing)
        first = start if not is_mark(start) else await self.record_at(offset_of(start))
        return Seen(first=offset_of(first), after=after)

    async def first_message(self, mark: bytes | None = b"") -> AbstractIncomingMessage:
        """The first message that is kept, be it a record or a mark.

        Args:
            mark: what is written where there is none; if None, one is waited for.
        """
        async with self._consumed("first", 1) as came:
            try:
                async with asyncio.timeout(_EMPTY_S):
                    return await came.get()
            except TimeoutError:
                if mark is not None:
                    await self._link.publish(self._stream, {**written({}), MARK: 1}, mark)
                return await came.get()

    async def record_at(self, offset: int) -> AbstractIncomingMessage:
        """The first record from an offset on, of which it is known that there is one."""
        async with self._consumed(offset, 10) as came:
            while True:
                message = await came.get()
                if not is_mark(message):
                    return message
                await message.ack()

    async def _between(self, low: int, high: int) -> list[AbstractIncomingMessage]:
        found: list[AbstractIncomingMessage] = []
        async with self._consumed(low, _AT_ONCE) as came:
            while True:
                message = await came.get()
                await message.ack()
                if offset_of(message) >= high:
                    return found
                found.append(message)

    async def _last_messages(self) -> list[AbstractIncomingMessage]:
        """What the newest chunk of the stream has, and what has come since; at least one."""
        async with self._consumed("last", _AT_ONCE) as came:
            fresh = [await came.get()]
            found = list(fresh)
            while fresh:
                await fresh[-1].ack(multiple=True)  # room for as many again
                await self._channel.set_qos(prefetch_count=_AT_ONCE)  # a question, to be answered
                for _ in range(_STEPS):
                    await asyncio.sleep(0)
                fresh = [came.get_nowait() for _ in range(came.qsize())]
                found += fresh
            return found

    @asynccontextmanager
    async def _consumed(
        self, start: int | str, at_once: int
    ) -> AsyncIterator[asyncio.Queue[AbstractIncomingMessage]]:
        came: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()

        async def take(message: AbstractIncomingMessage) -> None:
            came.put_nowait(message)

        await self._channel.set_qos(prefetch_count=at_once)
        queue = await self._channel.get_queue(self._stream, ensure=False)
        tag = await queue.consume(take, arguments={"x-stream-offset": start})
        try:
            yield came
        finally:
            if not self._channel.is_closed:
                try:
                    await queue.cancel(tag)
                except AMQPError:
                    pass  # the channel was lost meanwhile, and the consumer with it
