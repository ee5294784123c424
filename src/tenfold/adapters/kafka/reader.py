"""A reader of Kafka: a consumer of librdkafka's, which one thread of its own asks for records."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from tenfold.adapters.kafka.config import LOG
from tenfold.adapters.kafka.errors import unavailable
from tenfold.ports.broker import BrokerUnavailableError, Record

__all__ = ["KafkaReader", "moment"]

_POLL_S: Final = 0.1
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AWAY: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE)


def moment(at_ms: int) -> datetime:
    """A time of Kafka's."""
    return _START + timedelta(milliseconds=at_ms)


class KafkaReader:
    """Implements `Reader`.

    librdkafka fetches ahead by itself, within its bounds. What its thread was asked for by
    a call that was cancelled is kept for the next one.
    """

    def __init__(
        self, config: dict[str, Any], url: str, timeout_s: float, topic: str, offsets: Sequence[int]
    ) -> None:
        self._url, self._timeout_s, self._topic = url, timeout_s, topic
        self._away = False
        self._closing = threading.Event()
        self._consumer = Consumer({**config, "error_cb": self._on_error}, logger=LOG)
        places = [TopicPartition(topic, n, offset) for n, offset in enumerate(offsets)]
        self._consumer.assign(places)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tenfold-kafka-reader")
        self._asked: Future[list[Record]] | None = None
        self._ready: deque[Record] = deque()
        self._closed = False

    async def take(self, *, wait_s: float, most: int = 500) -> Sequence[Record]:
        """See `Reader.take`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not self._ready:
            if self._closed:
                raise BrokerUnavailableError(f"The reader of topic {self._topic!r} was closed.")
            left_s = max(until - loop.time(), 0.0)
            if self._asked is None:
                self._asked = self._thread.submit(self._fetch, left_s, most)
            asked = asyncio.wrap_future(self._asked)
            try:
                # The thread keeps to the time itself; a call that goes on for an earlier one,
                # which had more time, does not wait for it.
                await asyncio.wait([asked], timeout=left_s + _POLL_S)
            except asyncio.CancelledError:
                asked.add_done_callback(_looked_at)
                raise
            if not asked.done():
                asked.add_done_callback(_looked_at)
                return []
            self._asked = None
            # Nothing is awaited between what is taken out here and its return.
            self._ready.extend(asked.result())
            if not self._ready and loop.time() >= until:
                return []
        return [self._ready.popleft() for _ in range(min(most, len(self._ready)))]

    def _fetch(self, wait_s: float, most: int) -> list[Record]:
        """In the thread: the next records, as soon as there are any."""
        until = time.monotonic() + wait_s
        while not self._closing.is_set():
            left_s = until - time.monotonic()
            first = self._consumer.poll(min(max(left_s, 0.0), _POLL_S))
            if first is not None:
                rest = self._consumer.consume(most - 1, 0) if most > 1 else []
                found = self._read([first, *rest])
                if found:
                    return found
            elif left_s <= 0:
                break
            elif self._away:
                self._look()
        return []

    def _read(self, messages: list[Message]) -> list[Record]:
        found: list[Record] = []
        failed: KafkaError | None = None
        for message in messages:
            error = message.error()
            if error is None:
                found.append(_record(message))
                self._away = False
            elif error.code() in _AWAY:
                self._away = True
            elif not error.retriable():
                failed = failed or error
        if failed is not None and not found:
            raise unavailable(self._url, self._timeout_s, KafkaException(failed))
        return found

    def _look(self) -> None:
        """Whether any server answers, after none did. Raises: BrokerUnavailableError."""
        try:
            self._consumer.list_topics(self._topic, timeout=self._timeout_s)
        except KafkaException as error:
            raise unavailable(self._url, self._timeout_s, error) from error
        self._away = False

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _AWAY:
            self._away = True

    async def close(self) -> None:
        """See `Reader.close`."""
        if self._closed:
            return
        self._closed = True
        self._closing.set()
        self._ready.clear()
        closing = self._thread.submit(self._consumer.close)
        if self._asked is not None:
            asyncio.wrap_future(self._asked).add_done_callback(_looked_at)
        # The thread ends what it was asked before.
        await asyncio.wait([asyncio.wrap_future(closing)], timeout=self._timeout_s + 1)
        self._thread.shutdown(wait=False)


def _looked_at(future: asyncio.Future[list[Record]]) -> None:
    """An error of a call that nobody waits for any more is told by the next one."""
    if not future.cancelled():
        future.exception()


def _record(message: Message) -> Record:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    headers: Any = message.headers() or []
    return Record(
        partition=partition,
        offset=offset,
        at=moment(message.timestamp()[1]),
        headers={
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in headers
        },
        body=message.value() or b"",
    )
