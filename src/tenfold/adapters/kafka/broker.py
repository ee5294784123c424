"""The broker on Apache Kafka, spoken to by confluent-kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]

from tenfold.adapters.kafka.config import LOG, consumer_config, producer_config, shared_config
from tenfold.adapters.kafka.errors import bounded, unavailable
from tenfold.adapters.kafka.producer import KafkaProducer
from tenfold.adapters.kafka.reader import KafkaReader, moment
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.broker import Bounds, BrokerUnavailableError, TopicSettings

__all__ = ["KafkaBroker"]

_T = TypeVar("_T")
_LEAST_LARGEST: Final = 1_048_588
"""Kafka's own bound on a batch: topics are not made with less."""
_HEADERS_BYTES: Final = 65_536
_AGAIN_S: Final = 0.05
_MS: Final = timedelta(milliseconds=1)
_TOO_LARGE: Final = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE)
_UNKNOWN: Final = (
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
)
_UNSETTLED: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
"""What a partition answers that has just been made, or moved."""


class KafkaBroker:
    """Implements `Broker`. An offset is Kafka's own.

    An append returns when all servers in sync have it (`acks=all`), by an idempotent
    producer, which repeats without doubling or reordering. Kafka leaves it to the system
    when that reaches the disk, so what makes it durable is that several have it: topics with
    `replicas` 3 are made with `min.insync.replicas` 2, so that one server may be lost with
    its disk. A killed server loses nothing; one server alone that loses its power may lose
    what it was told in the last seconds.
    """

    kind = "kafka"

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """Make one; it connects when it is first used.

        Args:
            url: `kafka://[user:password@]host:port,host:port[?setting=value]`.
            timeout_s: for each word with the servers.
        Raises: UserMistakeError for a setting that librdkafka does not know.
        """
        self._url, self._timeout_s = url, timeout_s
        try:
            self._admin: AdminClient | None = AdminClient(shared_config(url, timeout_s), logger=LOG)
        except KafkaException as error:
            raise UserMistakeError(
                f"The broker's URL has a setting that librdkafka does not take: "
                f"{error.args[0].str()}. Nothing was started. Correct what follows `?` in "
                "`[topologies.X.broker] url`, or TENFOLD_BROKER_URL."
            ) from error
        self._producer: KafkaProducer | None = None
        self._partitions: dict[str, int] = {}

    async def ensure(self, topic: str, settings: TopicSettings) -> int:
        """See `Broker.ensure`."""
        count = await self._describe(topic)
        replicas = settings.replicas
        async with self._bounded():
            while count is None:
                config = {
                    "retention.ms": str(int(settings.retain_s * 1000)),
                    "max.message.bytes": str(
                        max(settings.max_record_bytes + _HEADERS_BYTES, _LEAST_LARGEST)
                    ),
                    "message.timestamp.type": "LogAppendTime",
                    "cleanup.policy": "delete",
                    "min.insync.replicas": str(max(replicas - 1, 1)),
                }
                new = NewTopic(topic, settings.partitions, replicas, config=config)
                try:
                    await self._asked(self._asking().create_topics([new]).values())
                except KafkaException as error:
                    code = error.args[0].code()
                    if code == KafkaError.INVALID_REPLICATION_FACTOR and replicas > 1:
                        replicas -= 1
                        continue
                    if code != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
                count = await self._describe(topic)
                if count is None:  # a server that has not heard of it yet
                    await asyncio.sleep(_AGAIN_S)
        self._partitions[topic] = count
        return count

    async def append(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """See `Broker.append`."""
        count = await self._count(topic)
        if partition >= count:
            raise BrokerUnavailableError(
                f"Topic {topic!r} has {count} partitions, and no number {partition}. Nothing was "
                "appended. Ask `ensure` how many it has."
            )
        producer = await self._producing()
        try:
            async with asyncio.timeout(self._timeout_s + 1.0):
                await producer.send(topic, partition, headers, body)
        except (KafkaException, TimeoutError) as error:
            if isinstance(error, KafkaException) and error.args[0].code() in _TOO_LARGE:
                raise ValueError(
                    f"A record of {len(body)} bytes for topic {topic!r} is larger than its "
                    "`max.message.bytes`, or than what this client sends. Nothing was appended. "
                    "Make records smaller (`max_record_bytes`), or raise the limit."
                ) from error
            raise unavailable(self._url, self._timeout_s, error) from error

    async def _producing(self) -> KafkaProducer:
        """The producer; another one where the last cannot go on."""
        self._asking()
        producer = self._producer
        if producer is not None and producer.broken:
            self._producer = None
            await producer.close()
        if self._producer is None:
            self._producer = KafkaProducer(producer_config(self._url, self._timeout_s))
        return self._producer

    async def bounds(self, topic: str) -> Sequence[Bounds]:
        """See `Broker.bounds`."""
        first, after = await asyncio.gather(
            self._offsets(topic, _earliest()), self._offsets(topic, _latest())
        )
        return [Bounds(first=f, after=max(f, a)) for f, a in zip(first, after, strict=True)]

    async def offsets_at(self, topic: str, at: datetime) -> Sequence[int]:
        """See `Broker.offsets_at`."""
        since = at.astimezone(UTC) - moment(0)
        at_ms = -(-since // _MS)  # Kafka keeps milliseconds: what lies between is the next
        found = await self._offsets(topic, OffsetSpec.for_timestamp(max(at_ms, 0)))
        if min(found) >= 0:
            return found
        ends = await self._offsets(topic, _latest())
        return [end if offset < 0 else offset for offset, end in zip(found, ends, strict=True)]

    async def _offsets(self, topic: str, spec: OffsetSpec) -> list[int]:
        """What each partition answers to a question; -1 where a moment is after all it has."""
        count = await self._count(topic)
        question = {TopicPartition(topic, n): spec for n in range(count)}
        async with self._bounded():
            while True:
                asked = self._asking().list_offsets(question, request_timeout=self._timeout_s)
                try:
                    answers = await self._asked(asked[each] for each in question)
                except KafkaException as error:
                    if error.args[0].code() not in _UNSETTLED:
                        raise
                    # What the client knows of leaders is old; it does not look again by itself.
                    await asyncio.to_thread(self._asking().list_topics, timeout=self._timeout_s)
                    await asyncio.sleep(_AGAIN_S)
                else:
                    return [each.offset for each in answers]

    async def reader(self, topic: str, offsets: Sequence[int]) -> KafkaReader:
        """See `Broker.reader`."""
        await self._count(topic)
        config = consumer_config(self._url, self._timeout_s)
        return KafkaReader(config, self._url, self._timeout_s, topic, offsets)

    async def close(self) -> None:
        """See `Broker.close`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.close()
        if self._admin is not None:
            left = [self._admin]
            self._admin = None
            await asyncio.to_thread(left.clear)  # it ends with its last name, and waits for that

    async def _count(self, topic: str) -> int:
        """How many partitions a topic has."""
        known = self._partitions.get(topic)
        if known is None:
            known = await self._describe(topic)
            if known is None:
                raise BrokerUnavailableError(
                    f"Kafka has no topic {topic!r}. Nothing was done. Make it with `ensure`."
                )
            self._partitions[topic] = known
        return known

    async def _describe(self, topic: str) -> int | None:
        """How many partitions a topic has; None where there is none."""
        async with self._bounded():
            asked = self._asking().describe_topics(
                TopicCollection([topic]), request_timeout=self._timeout_s
            )
            try:
                (found,) = await self._asked(asked.values())
            except KafkaException as error:
                if error.args[0].code() in _UNKNOWN:
                    return None
                raise
        return len(found.partitions) or None

    async def _asked(self, answers: Iterable[Future[_T]]) -> list[_T]:
        return await asyncio.gather(*(asyncio.wrap_future(each) for each in answers))

    def _bounded(self) -> AbstractAsyncContextManager[None]:
        return bounded(self._url, self._timeout_s)

    def _asking(self) -> AdminClient:
        """The client that asks."""
        if self._admin is None:
            raise BrokerUnavailableError("The connection to Kafka was closed here.")
        return self._admin


def _earliest() -> OffsetSpec:
    return OffsetSpec.earliest()  # type: ignore[no-untyped-call,no-any-return]


def _latest() -> OffsetSpec:
    return OffsetSpec.latest()  # type: ignore[no-untyped-call,no-any-return]
