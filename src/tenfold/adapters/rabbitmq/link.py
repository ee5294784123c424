"""One connection to RabbitMQ, made again when it was lost, and what goes over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    PublishError,
)

from tenfold.ports.broker import BrokerUnavailableError

__all__ = ["FAILURES", "Link", "stream_of"]

_T = TypeVar("_T")
FAILURES: Final = (AMQPError, OSError, TimeoutError, ChannelInvalidStateError, RuntimeError)
"""What the library raises when the server is away; it says much as `RuntimeError`."""
_HEARTBEAT_S: Final = 5


def stream_of(topic: str, partition: int | str) -> str:
    """The stream of a partition; a topic's name has no colon."""
    return f"{topic}:{partition}"


class Link:
    """A connection that is made when it is first used, and again after it was lost.

    The library's own "robust" connection is not used: it would attach readers where they
    once began, and so give them again what they have had.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = url
        self.timeout_s = timeout_s
        self._connection: AbstractConnection | None = None
        self._publishing: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._closed = False

    async def whole(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something to its end, though whoever asked for it be cancelled.

        The library does not bear to be cancelled between a question and its answer.
        """
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, where nobody waits for it any more

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A channel of one's own. Raises: BrokerUnavailableError."""
        async with self.bounded(), self._opening:
            return await self._open(confirms)

    async def _open(self, confirms: bool) -> AbstractChannel:
        if self._closed:
            raise BrokerUnavailableError("The connection to RabbitMQ was closed here.")
        # To the library only what was closed here is closed; what was lost is not connected.
        if self._connection is not None and not self._connection.connected.is_set():
            await self._give_up()
        if self._connection is None:
            self._connection = await aio_pika.connect(
                self._url, timeout=self.timeout_s, heartbeat=_HEARTBEAT_S
            )
        channel = self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
        await channel.initialize()
        return channel

    async def publish(self, stream: str, headers: Mapping[str, str | int], body: bytes) -> None:
        """Publish to a stream; returns when it is confirmed.

        Raises: BrokerUnavailableError; ValueError where it is too large.
        """
        message = aio_pika.Message(
            body, headers=dict(headers), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        try:
            async with self.bounded():
                channel = await self._publisher()
                await channel.default_exchange.publish(message, stream, mandatory=True)
        except BrokerUnavailableError as error:
            cause = error.__cause__
            if isinstance(cause, PublishError):
                raise missing(stream) from cause
            if isinstance(cause, ChannelPreconditionFailed) and f"size {len(body)} " in str(cause):
                raise ValueError(
                    f"A record of {len(body)} bytes for stream {stream!r} is larger than the "
                    "server's `max_message_size`. Nothing was appended. Make records smaller "
                    "(`max_record_bytes`), or raise the limit."
                ) from cause
            raise

    async def _publisher(self) -> AbstractChannel:
        """The channel that all appends share, so that they stay in their order."""
        async with self._opening:
            if self._publishing is None or self._publishing.is_closed:
                self._publishing = await self._open(confirms=True)
            return self._publishing

    @asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Bounds what stands in it, and translates its errors. Raises: BrokerUnavailableError."""
        try:
            async with asyncio.timeout(self.timeout_s):
                yield
        except ChannelNotFoundEntity as error:
            raise missing(str(error)) from error
        except FAILURES as error:
            parts = urlsplit(self._url)
            raise BrokerUnavailableError(
                f"RabbitMQ at {parts.hostname}:{parts.port or 5672} did not do it within "
                f"{self.timeout_s:g} s: {str(error) or type(error).__name__}. Whether it was done "
                "is not known; doing it again is safe. See that the server runs, and that "
                "`[topologies.X.broker] url` names it, with a user who may use the virtual host."
            ) from error

    async def close(self) -> None:
        """End it. Safe to call twice."""
        self._closed = True
        if self._under_way:
            _, late = await asyncio.wait(self._under_way, timeout=self.timeout_s)
            for task in late:
                task.cancel()
        async with self._opening:  # whoever is just making a connection makes it known first
            await self._give_up()

    async def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                await connection.close()
        except FAILURES:
            return  # it was lost meanwhile


def missing(stream: str) -> BrokerUnavailableError:
    """The error that says that there is no such stream."""
    return BrokerUnavailableError(
        f"RabbitMQ has no stream for this partition: {stream}. Nothing was done. Make the topic "
        "with `ensure`."
    )
