"""The counter of rate limits in Valkey: one script, one round trip, the server's clock."""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tenfold.ports.limits import CounterUnavailableError, Grant, Rate, decide_grant

__all__ = ["ValkeyCounter"]

_CONNECTIONS = 16
# What `decide_grant` does, where the counts are: two processes never read the same ones.
_TAKE = """
local time = redis.call('TIME')
local window = tonumber(ARGV[2]) * 1000
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local number, into = math.floor(now / window), now % window
local kept = redis.call('HMGET', KEYS[1], 'n', 'p', 'c')
local begun, previous, current = tonumber(kept[1]), tonumber(kept[2]) or 0, tonumber(kept[3]) or 0
if begun ~= number then
  if begun == number - 1 then previous = current else previous = 0 end
  current = 0
end
local free = math.floor(tonumber(ARGV[1]) - current - previous * (1 - into / window))
local granted = math.min(tonumber(ARGV[3]), math.max(free, 0))
if granted > 0 then
  redis.call('HSET', KEYS[1], 'n', number, 'p', previous, 'c', current + granted)
  redis.call('PEXPIRE', KEYS[1], window * 2)
end
return {granted, previous, current + granted, into}
"""


class ValkeyCounter:
    """Implements `SharedCounter` on a Valkey or Redis server. A key is a hash of three numbers."""

    def __init__(
        self, url: str, *, namespace: str = "tenfold:limits", timeout_ms: int = 50
    ) -> None:
        """Make one; it connects when it is first used.

        Args:
            url: `valkey://` or `redis://[user:password@]host:port/number`.
            namespace: goes before each key, such as the product's name.
            timeout_ms: the longest that a caller waits, a new connection included.
        """
        timeout_s = timeout_ms / 1000
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._client = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                url.replace("valkey", "redis", 1) if url.startswith("valkey") else url,
                max_connections=_CONNECTIONS,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            )
        )
        self._take: Any = self._client.register_script(_TAKE)

    async def take(self, key: str, rate: Rate, wanted: int) -> Grant:
        """Take up to `wanted` at once. See `SharedCounter.take`."""
        # A digest, since a key may tell of a person: who called, and from which address.
        whose = blake2b(key.encode(), digest_size=16).hexdigest()
        name = f"{self._namespace}:{rate.limit}/{rate.window_s}:{whose}"
        try:
            async with asyncio.timeout(self._timeout_s):
                granted, previous, current, into_ms = await self._take(
                    keys=(name,), args=(rate.limit, rate.window_s, wanted)
                )
        except (RedisError, OSError, TimeoutError) as error:
            raise CounterUnavailableError(
                f"The counter of rate limits did not answer within {self._timeout_s * 1000:g} ms: "
                f"{error!r}. Limits are kept by each process for itself until it does. Look at "
                "the Valkey server."
            ) from error
        rest = decide_grant(rate, previous, current, into_ms / 1000, 0)
        return Grant(granted, rest.left, rest.retry_s)

    async def close(self) -> None:
        """End its connections."""
        await self._client.aclose()
        await self._client.connection_pool.disconnect()
