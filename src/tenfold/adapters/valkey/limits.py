"""The counter of rate limits in Valkey: one script, one round trip, the server's clock."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tenfold.ports.limits import CounterUnavailableError, Grant, Rate, decide_grant

__all__ = ["ValkeyCounter"]

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
    """Implements `SharedCounter` on a Valkey or Redis server, or a cluster's one slot per key.

    Args:
        client: connected to the server; the caller closes it.
        prefix: goes before each key, such as the product's name.
        timeout_s: the longest that a caller waits.
    """

    def __init__(self, client: Redis, *, prefix: str = "tenfold", timeout_s: float = 0.05) -> None:
        self._prefix = prefix
        self._timeout_s = timeout_s
        self._take: Any = client.register_script(_TAKE)

    async def take(self, key: str, rate: Rate, wanted: int) -> Grant:
        """Take up to `wanted` at once. See `SharedCounter.take`."""
        name = f"{self._prefix}:limit:{rate.limit}/{rate.window_s}:{key}"
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
