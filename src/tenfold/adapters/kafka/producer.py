"""A producer of librdkafka's, driven by a thread that hands its reports to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tenfold.adapters.kafka.config import LOG

__all__ = ["KafkaProducer"]

_POLL_S: Final = 0.1
_ROOM_S: Final = 0.01
_Report = tuple["asyncio.Future[None]", "KafkaError | None"]


class KafkaProducer:
    """One producer and its thread.

    librdkafka reports each record's fate to whoever polls it. The thread does, and tells
    the loop once for all reports that came together.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self.broken = False
        """Whether it met an error that it cannot go on after; another one has to be made."""
        self._producer = Producer({**config, "error_cb": self._on_error}, logger=LOG)
        self._ended = threading.Event()
        self._reports: deque[_Report] = deque()
        self._told = False
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="tenfold-kafka", daemon=True)
        self._thread.start()

    async def send(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Send one record; returns when the broker has it.

        Raises: KafkaException.
        """
        sent: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, message: Message) -> None:
            self._report(sent, error)

        said: list[tuple[str, str | bytes | None]] = [
            (name, value.encode()) for name, value in headers.items()
        ]
        while True:
            try:
                self._producer.produce(
                    topic, body, partition=partition, headers=said, on_delivery=report
                )
            except BufferError:  # more is under way than may be held: wait for some of it
                await asyncio.sleep(_ROOM_S)
            else:
                break
        await sent

    def _report(self, sent: asyncio.Future[None], error: KafkaError | None) -> None:
        if error is not None and error.fatal():
            self.broken = True
        with self._guard:
            self._reports.append((sent, error))
            told, self._told = self._told, True
        if not told:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        with self._guard:
            reports, self._reports = self._reports, deque()
            self._told = False
        for sent, error in reports:
            if sent.done():
                continue
            if error is None:
                sent.set_result(None)
            else:
                sent.set_exception(KafkaException(error))

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self.broken = True

    def _work(self) -> None:
        while not self._ended.is_set():
            self._producer.poll(_POLL_S)
        # What nobody waits for any more is given up, and reported as such.
        self._producer.purge()
        self._producer.poll(0)
        del self._producer  # it ends with its last name, which may take a moment: here

    async def close(self) -> None:
        """Give up what is under way, and end the thread. Safe to call twice."""
        self._ended.set()
        await asyncio.to_thread(self._thread.join)
