"""The broker on NATS JetStream, spoken to by nats-py."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from nats.errors import Error as NatsError

from tenfold.adapters.nats.connection import Connection, JetStreamError
from tenfold.adapters.nats.reader import NatsReader, create_consumer
from tenfold.adapters.nats.words import header_bytes, stream_of, subject_of, written
from tenfold.ports.broker import Bounds, BrokerUnavailableError, TopicSettings

__all__ = ["NatsBroker"]

_NS: Final = 1_000_000_000
_HEADERS_BYTES: Final = 65_536
_IN_USE: Final = (10_058, 10_065)
"""A stream of this name, or with these subjects, is there with another configuration."""
_TOO_MANY_REPLICAS: Final = (10_005, 10_074)
_NOT_FOUND: Final = 10_059
_TOO_LARGE: Final = 10_054
_PARTITIONS: Final = "tenfold-partitions"


class NatsBroker:
    """Implements `Broker`. A partition is a stream, and an offset its sequence less one.

    An append returns when the stream's servers have it: the only one, or most of them
    where a topic has replicas. None of them has synced it to its disk by then, unless the
    server's `sync_interval` is `always`; by default it does so every two minutes. So a
    killed server loses nothing, but a machine that loses its power may lose what was told
    in the last two minutes. Its own de-duplication is not used.
    """

    kind = "nats"

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """Make one; it connects when it is first used.

        Args:
            url: `nats://[user:password@]host:port`, several `host:port` parted by commas. TLS is
                spoken where the server requires it; `tls://` refuses one that does not, once
                the greeting, with the password in it, has been sent.
            timeout_s: for each word with the server, a new connection included.
        """
        self._connection = Connection(url, timeout_s)
        self._partitions: dict[str, int] = {}

    async def ensure(self, topic: str, settings: TopicSettings) -> int:
        """See `Broker.ensure`. The first partition's stream says how many there are."""
        count = settings.partitions
        config = await self._make(topic, 0, settings, count)
        count = int(config.get("metadata", {}).get(_PARTITIONS, count))
        await asyncio.gather(*(self._make(topic, n, settings, count) for n in range(1, count)))
        self._partitions[topic] = count
        return count

    async def _make(
        self, topic: str, partition: int, settings: TopicSettings, count: int
    ) -> dict[str, Any]:
        """Make the stream of a partition unless it is there; its configuration."""
        stream = stream_of(topic, partition)
        config: dict[str, Any] = {
            "name": stream,
            "description": f"Partition {partition} of {count} of Tenfold's topic {topic}",
            "subjects": [subject_of(topic, partition)],
            "retention": "limits",
            "storage": "file",
            "discard": "old",
            "max_age": int(settings.retain_s * _NS),
            "duplicate_window": min(120, int(settings.retain_s)) * _NS,
            "max_msg_size": settings.max_record_bytes + _HEADERS_BYTES,
            "max_consumers": -1,
            "max_msgs": -1,
            "max_bytes": -1,
            "metadata": {_PARTITIONS: str(count)},
        }
        replicas = settings.replicas
        while True:
            question = {**config, "num_replicas": replicas}
            try:
                made = await self._connection.api(f"STREAM.CREATE.{stream}", question)
            except JetStreamError as error:
                if error.number in _IN_USE:
                    made = await self._info(topic, partition)
                elif error.number in _TOO_MANY_REPLICAS and replicas > 1:
                    replicas -= 1
                    continue
                else:
                    raise self._refused(topic, error) from error
            found: dict[str, Any] = made["config"]
            return found

    async def append(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """See `Broker.append`."""
        said = written(headers)
        client = await self._connection.client()
        size = len(body) + header_bytes(said)
        if size > client.max_payload:
            raise ValueError(_too_large(topic, size, f"`max_payload` ({client.max_payload} bytes)"))
        try:
            await self._connection.ask(subject_of(topic, partition), body, said)
        except JetStreamError as error:
            if error.number == _TOO_LARGE:
                raise ValueError(_too_large(topic, size, "the stream's `max_msg_size`")) from error
            raise self._refused(topic, error) from error

    async def bounds(self, topic: str) -> Sequence[Bounds]:
        """See `Broker.bounds`."""
        count = await self._count(topic)
        infos = await asyncio.gather(*(self._info(topic, n) for n in range(count)))
        states = [info["state"] for info in infos]
        # An empty stream says what comes next: its first sequence is one more than its last.
        return [
            Bounds(first=max(state["first_seq"] - 1, 0), after=state["last_seq"])
            for state in states
        ]

    async def offsets_at(self, topic: str, at: datetime) -> Sequence[int]:
        """See `Broker.offsets_at`. A consumer is asked where it would begin, and read by nobody."""
        count = await self._count(topic)
        return await asyncio.gather(*(self._offset_at(topic, n, at) for n in range(count)))

    async def _offset_at(self, topic: str, partition: int, at: datetime) -> int:
        stream, name = stream_of(topic, partition), f"tenfold-{secrets.token_hex(8)}"
        start = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        policy = {"deliver_policy": "by_start_time", "opt_start_time": start}
        made = await create_consumer(self._connection, stream, name, policy)
        offset: int = made["delivered"]["stream_seq"]
        client = await self._connection.client()
        try:
            await client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}")
        except (NatsError, OSError) as error:
            raise self._connection.unavailable("take a word", error) from error
        return offset

    async def reader(self, topic: str, offsets: Sequence[int]) -> NatsReader:
        """See `Broker.reader`."""
        await self._count(topic)
        return NatsReader(self._connection, topic, offsets)

    async def close(self) -> None:
        """See `Broker.close`."""
        await self._connection.close()

    async def _count(self, topic: str) -> int:
        """How many partitions a topic has."""
        known = self._partitions.get(topic)
        if known is None:
            config = (await self._info(topic, 0))["config"]
            known = self._partitions[topic] = int(config.get("metadata", {}).get(_PARTITIONS, 1))
        return known

    async def _info(self, topic: str, partition: int) -> dict[str, Any]:
        try:
            return await self._connection.api(f"STREAM.INFO.{stream_of(topic, partition)}")
        except JetStreamError as error:
            raise self._refused(topic, error) from error

    def _refused(self, topic: str, error: JetStreamError) -> BrokerUnavailableError:
        if error.number in (0, _NOT_FOUND):
            return BrokerUnavailableError(
                f"NATS has no stream for this partition of topic {topic!r}, or its JetStream does "
                "not answer yet. Nothing was done. Make the topic with `ensure`, and see that the "
                "server runs with JetStream (`nats-server -js`)."
            )
        return BrokerUnavailableError(
            f"NATS refused what was asked of topic {topic!r}: {error}. Nothing was done, and doing "
            "it again is safe once that is mended; see the server's log."
        )


def _too_large(topic: str, size: int, limit: str) -> str:
    return (
        f"A record of {size} bytes for topic {topic!r} is larger than {limit}. Nothing was "
        "appended. Make records smaller (`max_record_bytes`), or raise the limit."
    )
