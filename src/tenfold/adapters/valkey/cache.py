"""The shared cache in Valkey, spoken to by redis-py."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tenfold.adapters.valkey.circuit import Circuit
from tenfold.adapters.valkey.listening import Listener
from tenfold.adapters.valkey.scripts import CLAIM, FILL, INVALIDATE, RELEASE
from tenfold.ports.cache import CacheUnavailableError, Claim, Follower, Found, Slot, Wish
from tenfold.ports.clock import Clock

__all__ = ["ValkeyCache"]

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode
_VERSION_BYTES = 12
_RANK_BYTES = 16
_ONCE_S = 300
_CONNECTIONS = 16
_FAILURES = (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError)


class ValkeyCache:
    """Implements `Cache`.

    What is kept belongs to one run of the server: its run's id is in every key.
    A server that was restarted from a snapshot, or a replica that took over, may
    have forgotten invalidations; what it has from before is never read.

    Keys hold digests, nothing that a person could be told by. One server, or one
    primary with replicas to take over; not a cluster, whose scripts reach one slot.
    """

    def __init__(self, url: str, clock: Clock, *, namespace: str, timeout_ms: int = 50) -> None:
        """Make one; it connects when it is first used.

        Args:
            url: `valkey://` or `redis://[user:password@]host:port/number`.
            namespace: the product's name, so that several share a server.
            timeout_ms: for each word with the server, a new connection included.
        """
        self._url = url.replace("valkey", "redis", 1) if url.startswith("valkey") else url
        self._namespace = namespace
        self._timeout_s = timeout_ms / 1000
        self._origin = secrets.token_hex(8)
        self._run = b""
        self.circuit = Circuit(clock.monotonic)
        self._client = Redis(
            connection_pool=BlockingConnectionPool.from_url(
                self._url,
                max_connections=_CONNECTIONS,
                timeout=self._timeout_s,
                socket_timeout=self._timeout_s,
                socket_connect_timeout=self._timeout_s,
                retry=Retry(NoBackoff(), 0),
                redis_connect_func=self._greet,
                protocol=2,
            )
        )
        self._claim = self._client.register_script(CLAIM)
        self._fill = self._client.register_script(FILL)
        self._release = self._client.register_script(RELEASE)
        self._invalidate = self._client.register_script(INVALIDATE)
        number = self._client.connection_pool.connection_kwargs.get("db", 0)
        self._channel = f"{namespace}:{number}:dropped"
        self._listeners: list[Listener] = []

    async def find(self, slots: Sequence[Slot]) -> list[Found | None]:
        """What is kept in each slot, in one round trip. See `Cache.find`."""

        async def ask() -> list[Found | None]:
            await self._meet()
            keys = [key for slot in slots for key in (self._entry(slot), *self._tags(slot))]
            pipeline: Any = self._client.pipeline(transaction=False)
            pipeline.mget(keys)
            for slot in slots:
                pipeline.pttl(self._entry(slot))
            held, *left = await pipeline.execute()
            found: list[Found | None] = []
            at = 0
            for slot, left_ms in zip(slots, left, strict=True):
                versions = held[at + 1 : at + 1 + len(slot.tags)]
                found.append(_found(held[at], versions, left_ms))
                at += 1 + len(slot.tags)
            return found

        return await self._bounded(ask)

    async def claim(self, slot: Slot, wish: Wish) -> Claim:
        """Look once more, and take the slot's lease. See `Cache.claim`."""
        token = secrets.token_bytes(8)
        version = secrets.token_bytes(_VERSION_BYTES)

        async def ask() -> Claim:
            await self._meet()
            keys = [self._entry(slot), self._lease(slot), *self._tags(slot)]
            arguments: list[bytes | int] = [
                token,
                int(wish.lease_s * 1000),
                int(wish.life_s * 1000) + 1000,
                version,
                int(wish.least_left_s * 1000),
                b"%016x" % wish.least_rank,
            ]
            granted, versions, *entry = await self._claim(keys, arguments)
            found = _found(entry[0], versions, entry[1]) if entry else None
            return Claim(versions=tuple(versions), token=token, granted=granted == 1, found=found)

        return await self._bounded(ask)

    async def fill(
        self, slot: Slot, claim: Claim, value: bytes, *, rank: int, keep_s: float
    ) -> bool:
        """Keep an answer and end the claim. See `Cache.fill`."""

        async def ask() -> bool:
            await self._meet()
            keys = [self._entry(slot), self._lease(slot), *self._tags(slot)]
            life_ms = max(int(keep_s * 1000), 1)
            versions = b"".join(claim.versions)
            kept = await self._fill(keys, [claim.token, b"%016x" % rank, versions, value, life_ms])
            return bool(kept)

        return await self._bounded(ask)

    async def release(self, slot: Slot, claim: Claim) -> None:
        """End a claim without an answer. See `Cache.release`."""

        async def ask() -> None:
            await self._meet()
            await self._release([self._lease(slot)], [claim.token])

        await self._bounded(ask)

    async def invalidate(self, tags: Sequence[str], reasons: Sequence[str] = ()) -> bool:
        """Drop every answer with one of these tags, and tell it. See `Cache.invalidate`."""
        message = _encode((self._origin, *tags))

        async def ask() -> bool:
            await self._meet()
            keys = [self._key(b"o", reason) for reason in reasons]
            keys += [self._key(b"t", tag) for tag in tags]
            arguments: list[str | int | bytes] = [len(reasons), _ONCE_S, self._channel, message]
            return bool(await self._invalidate(keys, arguments))

        return await self._bounded(ask)

    async def follow(self, follower: Follower) -> None:
        """Tell a follower what other processes drop. See `Cache.follow`."""
        listener = Listener(self._url, self._channel, self._origin, follower)
        self._listeners.append(listener)
        listener.start()

    async def close(self) -> None:
        """Stop listening, and close the connections. See `Cache.close`."""
        for listener in self._listeners:
            await listener.stop()
        await self._client.aclose()
        await self._client.connection_pool.disconnect()

    async def _bounded(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        if not self.circuit.admit():
            raise CacheUnavailableError(
                "The shared cache did not answer lately and is left alone for a while. The "
                "product goes on without it, slower; nothing is lost."
            )
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = await ask()
        except _FAILURES as error:
            self.circuit.failed()
            raise CacheUnavailableError(
                f"The shared cache did not answer within {self._timeout_s * 1000:g} ms: "
                f"{type(error).__name__}: {error}. The product goes on without it, slower; look "
                "whether the server runs and can be reached."
            ) from error
        except BaseException:
            self.circuit.abandoned()
            raise
        self.circuit.succeeded()
        return answer

    async def _meet(self) -> None:
        """Learn which run of the server this is, before the first key is made."""
        if not self._run:
            await self._client.ping()

    async def _greet(self, connection: Any) -> None:
        """Begin a connection; refuse it where the server is another than it was.

        Whoever was about to use it made its keys for the run before.
        """
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        text: bytes = await connection.read_response()
        run = text.partition(b"run_id:")[2][:12]
        if self._run in (b"", run):
            self._run = run
            return
        self._run = run
        await connection.disconnect()
        raise RedisConnectionError("the server was restarted, or another one took its place")

    def _entry(self, slot: Slot) -> bytes:
        return b"%b:%b:e:%b" % (self._namespace.encode(), self._run, slot.key)

    def _lease(self, slot: Slot) -> bytes:
        return b"%b:%b:l:%b" % (self._namespace.encode(), self._run, slot.key)

    def _tags(self, slot: Slot) -> list[bytes]:
        return [self._key(b"t", tag) for tag in slot.tags]

    def _key(self, kind: bytes, text: str) -> bytes:
        digest = blake2b(text.encode(), digest_size=12).digest()
        return b"%b:%b:%b:%b" % (self._namespace.encode(), self._run, kind, digest)


def _found(entry: bytes | None, versions: Sequence[bytes | None], left_ms: int) -> Found | None:
    """An entry, if the versions of its tags are still those that it was filled under."""
    if entry is None or None in versions or left_ms <= 0:
        return None
    now = b"".join(version for version in versions if version is not None)
    begins = _RANK_BYTES + len(now)
    if entry[_RANK_BYTES:begins] != now:
        return None
    return Found(value=entry[begins:], left_s=left_ms / 1000)
