"""The broker on RabbitMQ's streams, spoken to by aio-pika."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from aiormq.exceptions import ChannelPreconditionFailed, ConnectionInternalError

from tenfold.adapters.rabbitmq.link import FAILURES, Link, stream_of
from tenfold.adapters.rabbitmq.looking import Look
from tenfold.adapters.rabbitmq.reader import RabbitReader
from tenfold.adapters.rabbitmq.records import offset_of, read_record, written
from tenfold.ports.broker import Bounds, BrokerUnavailableError, TopicSettings

__all__ = ["RabbitBroker"]

_T = TypeVar("_T")
_AGAIN_S: Final = 0.05
_NOT_YET: Final = "does not have a replica on the local node"
_SEGMENT_BYTES: Final = 64 * 1024 * 1024
_COUNT: Final = "partitions"
"""The stream whose first message says how many partitions a topic has."""


class RabbitBroker:
    """Implements `Broker`. A partition is a stream (not a queue), and an offset the stream's own.

    An append returns when the server confirms it: when the stream's servers, or most of
    them where a topic has replicas, have written it. Streams are never synced to the disk
    before that, so a killed server loses nothing, but one server alone that loses its power
    may lose what it was told in the last seconds: three replicas are what makes it durable.
    Records leave by whole segments of 64 MiB, when all in it are old enough.

    `Record.at` is the appender's clock, unless the server's message interceptor sets it.
    """

    kind = "rabbitmq"

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """Make one; it connects when it is first used.

        Args:
            url: `amqp://user:password@host:port/vhost`; `amqps://` for TLS.
            timeout_s: for each word with the server, a new connection included.
        """
        self._link = Link(url, timeout_s)
        self._partitions: dict[str, int] = {}

    async def ensure(self, topic: str, settings: TopicSettings) -> int:
        """See `Broker.ensure`. Of several who make it at once, who writes first has its way."""
        await self._declare(stream_of(topic, _COUNT), settings.replicas, {})
        count = await self._read_count(topic, settings.partitions)
        kept = {
            "x-max-age": f"{math.ceil(settings.retain_s)}s",
            "x-stream-max-segment-size-bytes": _SEGMENT_BYTES,
        }
        for partition in range(count):
            await self._declare(stream_of(topic, partition), settings.replicas, kept)
        self._partitions[topic] = count
        return count

    async def _declare(self, stream: str, replicas: int, more: Mapping[str, Any]) -> None:
        """Make a stream; one that is there with other settings is left as it is."""
        await self._link.whole(self._declare_whole(stream, replicas, more))

    async def _declare_whole(self, stream: str, replicas: int, more: Mapping[str, Any]) -> None:
        arguments = {"x-queue-type": "stream", "x-initial-cluster-size": replicas, **more}
        async with self._channel() as channel:
            try:
                await channel.declare_queue(stream, durable=True, arguments=arguments)
            except ChannelPreconditionFailed as error:
                if "inequivalent arg" not in str(error):
                    raise

    async def append(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """See `Broker.append`."""
        await self._link.publish(stream_of(topic, partition), written(headers), body)

    async def bounds(self, topic: str) -> Sequence[Bounds]:
        """See `Broker.bounds`."""
        count = await self._count(topic)
        return await asyncio.gather(*(self._bounds(topic, n) for n in range(count)))

    async def _bounds(self, topic: str, partition: int) -> Bounds:
        seen = await self._look(topic, partition, Look.bounds)
        return Bounds(first=seen.first, after=seen.after)

    async def offsets_at(self, topic: str, at: datetime) -> Sequence[int]:
        """See `Broker.offsets_at`. Bisects: the server knows only its own times, by chunks."""
        count = await self._count(topic)
        return await asyncio.gather(*(self._offset_at(topic, n, at) for n in range(count)))

    async def _offset_at(self, topic: str, partition: int, at: datetime) -> int:
        async def bisect(look: Look) -> int:
            seen = await look.bounds()
            low, high = seen.first, seen.after
            while low < high:
                record = read_record(await look.record_at((low + high) // 2), partition)
                if record.at < at:
                    low = record.offset + 1
                else:
                    high = (low + high) // 2
            if low >= seen.after:
                return seen.after
            return offset_of(await look.record_at(low))

        return await self._look(topic, partition, bisect)

    async def reader(self, topic: str, offsets: Sequence[int]) -> RabbitReader:
        """See `Broker.reader`."""
        await self._count(topic)
        return RabbitReader(self._link, topic, offsets)

    async def close(self) -> None:
        """See `Broker.close`."""
        await self._link.close()

    async def _count(self, topic: str) -> int:
        """How many partitions a topic has."""
        known = self._partitions.get(topic)
        if known is None:
            known = self._partitions[topic] = await self._read_count(topic, None)
        return known

    async def _read_count(self, topic: str, proposed: int | None) -> int:
        mark = None if proposed is None else str(proposed).encode()
        first = await self._look(topic, _COUNT, lambda look: look.first_message(mark))
        return int(first.body)

    async def _look(
        self, topic: str, partition: int | str, ask: Callable[[Look], Awaitable[_T]]
    ) -> _T:
        """Ask something of a stream; again while the server is about to have it."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._link.timeout_s
        while True:
            try:
                return await self._link.whole(self._asked(stream_of(topic, partition), ask))
            except BrokerUnavailableError as error:
                if not _is_unsettled(error.__cause__) or loop.time() > until:
                    raise
            await asyncio.sleep(_AGAIN_S)

    async def _asked(self, stream: str, ask: Callable[[Look], Awaitable[_T]]) -> _T:
        async with self._channel() as channel:
            return await ask(Look(self._link, channel, stream))

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Any]:
        """A channel for a question; closed afterwards, with all that was consumed over it."""
        channel = await self._link.channel()
        try:
            async with self._link.bounded():
                yield channel
        finally:
            if not channel.is_closed:
                try:
                    async with asyncio.timeout(self._link.timeout_s):
                        await channel.close()
                except FAILURES:
                    pass  # it was lost meanwhile


def _is_unsettled(error: BaseException | None) -> bool:
    """Whether a stream is being made at this moment: read then, it makes RabbitMQ stumble."""
    return isinstance(error, ConnectionInternalError) or _NOT_YET in str(error)
