"""Hears what other processes drop, and knows when it may have missed something."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tenfold.ports.cache import Follower

__all__ = ["Listener"]

_decode = msgspec.json.Decoder(tuple[str, ...]).decode
_QUIET_S = 1.0
"""Seconds without a word after which the server is asked whether it is there."""
_ANSWER_S = 1.0
_AGAIN_S = 0.2
_LONGEST_S = 2.0


class Listener:
    """Follows one channel of the server.

    A connection that broke without a word is noticed within two seconds; for as
    long the follower may hold what others have dropped.
    """

    def __init__(self, url: str, channel: str, origin: str, follower: Follower) -> None:
        self._url = url
        self._channel = channel
        self._origin = origin
        self._follower = follower
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="cache listener")

    async def stop(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        wait_s = _AGAIN_S
        while True:
            client = Redis.from_url(
                self._url,
                socket_connect_timeout=_ANSWER_S,
                socket_timeout=_ANSWER_S,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
            try:
                async with client, client.pubsub() as messages:
                    await messages.subscribe(self._channel)
                    await self._listen(messages)
            except (RedisError, OSError, TimeoutError, msgspec.DecodeError):
                pass  # told to the follower below; it goes without until the next time
            else:
                wait_s = _AGAIN_S
            finally:
                self._follower.lost()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, _LONGEST_S)

    async def _listen(self, messages: Any) -> None:
        asked = False
        while True:
            message = await messages.get_message(timeout=_ANSWER_S if asked else _QUIET_S)
            if message is None:
                if asked:
                    return
                await messages.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                self._follower.live()
            elif message["type"] == "message":
                origin, *tags = _decode(message["data"])
                if origin != self._origin:
                    self._follower.invalidated(tags)
