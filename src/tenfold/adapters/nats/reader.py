"""A reader of JetStream: for each partition a consumer of its own, pulled as there is room.

A consumer is the server's memory of a place, and may be lost with the server or the
connection. The place is therefore kept here, and after whatever was unexpected a new
consumer begins at it: what an "ordered consumer" of NATS is, with bounds on what is held.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from tenfold.adapters.nats.connection import Connection, JetStreamError
from tenfold.adapters.nats.words import placed, read_headers, stream_of
from tenfold.ports.broker import BrokerUnavailableError, Record

__all__ = ["NatsReader"]

_HELD_BYTES: Final = 8 * 1024 * 1024
"""What may lie here untaken; each partition is pulled for its share, one record at the least."""
_BATCH: Final = 256
_EXPIRES_S: Final = 30.0
_HEARTBEAT_S: Final = 2.0
_SILENT_S: Final = 3 * _HEARTBEAT_S
_FORGET_S: Final = 60
"""After so long without a pull the server forgets a consumer."""
_NS: Final = 1_000_000_000
_START = datetime(1970, 1, 1, tzinfo=UTC)


def _moment(at_ns: int) -> datetime:
    """A time of JetStream's, to the microsecond below."""
    return _START + timedelta(microseconds=at_ns // 1000)


class _Lane:
    """One partition: its place, and the consumer that reads on from there."""

    def __init__(self, reader: NatsReader, topic: str, partition: int, offset: int) -> None:
        self._reader = reader
        self.partition = partition
        self.stream = stream_of(topic, partition)
        self.next = offset + 1
        self.consumer = ""
        self.inbox = ""
        self.client: Client | None = None
        self.subscription: Subscription | None = None
        self._number = 0
        self.asked = 0
        """Records that the server may still send for the last pull; 0 where none is out."""
        self.heard = 0.0

    @property
    def lost(self) -> bool:
        """Whether it needs a new consumer."""
        loop = asyncio.get_running_loop()
        silent = self.asked > 0 and loop.time() - self.heard > _SILENT_S
        return not self.consumer or silent

    def forget(self) -> None:
        """Read on with a new consumer."""
        self.consumer, self.asked = "", 0

    def begin(self, consumer: str) -> None:
        """Go on with a consumer that begins at the place."""
        self.consumer, self.asked, self._number = consumer, 0, 0

    async def on_message(self, message: Msg) -> None:
        """Take in what the server sends; never waits."""
        self.heard = asyncio.get_running_loop().time()
        status = (message.headers or {}).get("Status") if not message.reply else None
        if status is not None:
            self._on_status(status, (message.headers or {}).get("Description", ""))
            return
        place = placed(message.reply)
        if place.consumer != self.consumer:
            return  # of one that was given up
        if place.number != self._number + 1:
            self.forget()
            self._reader.wake()
            return
        self._number += 1
        self.asked -= 1
        self.next = place.sequence + 1
        self._reader.add(
            Record(
                partition=self.partition,
                offset=place.sequence - 1,
                at=_moment(place.at_ns),
                headers=read_headers(message.headers),
                body=message.data,
            )
        )

    def _on_status(self, status: str, told: str) -> None:
        if status == "100":  # a heartbeat
            return
        if status in ("404", "408") or (status == "409" and "MaxBytes" in told):
            self.asked = 0  # the pull has ended, the consumer has not
        elif status == "409" and told.startswith("Batch Completed"):
            self.asked = 0
        else:
            self.forget()
        self._reader.wake()


class NatsReader:
    """Implements `Reader`."""

    def __init__(self, connection: Connection, topic: str, offsets: Sequence[int]) -> None:
        self._connection = connection
        self._topic = topic
        self._lanes = [_Lane(self, topic, n, offset) for n, offset in enumerate(offsets)]
        self._held: deque[Record] = deque()
        self._held_bytes = 0
        self._arrived = asyncio.Event()
        self._epoch = -1
        self._closed = False

    def add(self, record: Record) -> None:
        """A record has come."""
        self._held.append(record)
        self._held_bytes += len(record.body)
        self._arrived.set()

    def wake(self) -> None:
        """Something has changed that `take` should look at."""
        self._arrived.set()

    async def take(self, *, wait_s: float, most: int = 500) -> Sequence[Record]:
        """See `Reader.take`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while True:
            self._arrived.clear()
            if self._closed:
                raise BrokerUnavailableError(f"The reader of topic {self._topic!r} was closed.")
            # Nothing is awaited between what is taken out here and its return. What has come is
            # given before it is waited for the server.
            if not self._held or (self._held_bytes < _HELD_BYTES and self._connection.up):
                try:
                    await self._pull()
                except BrokerUnavailableError:
                    if not self._held:
                        raise
            if self._held:
                return self._taken(most)
            left_s = until - loop.time()
            if left_s <= 0:
                return []
            try:
                async with asyncio.timeout(min(left_s, _HEARTBEAT_S)):
                    await self._arrived.wait()
            except TimeoutError:
                continue

    def _taken(self, most: int) -> list[Record]:
        found = [self._held.popleft() for _ in range(min(most, len(self._held)))]
        self._held_bytes -= sum(len(each.body) for each in found)
        return found

    async def _pull(self) -> None:
        """See that every partition with room has a consumer, and a pull under way."""
        client = await self._connection.client()
        if self._epoch != self._connection.epoch:
            self._epoch = self._connection.epoch
            for lane in self._lanes:
                lane.forget()
        lost = [lane for lane in self._lanes if lane.lost]
        if lost:
            made = (self._consume(client, lane) for lane in lost)
            for failed in await asyncio.gather(*made, return_exceptions=True):
                if failed is not None:
                    raise failed
        share = max(_HELD_BYTES // len(self._lanes), client.max_payload + 65_536)
        for lane in self._lanes:
            if lane.consumer and lane.asked <= 0:
                await self._ask(client, lane, share)

    async def _ask(self, client: Client, lane: _Lane, share: int) -> None:
        question = {
            "batch": _BATCH,
            "max_bytes": share,
            "expires": int(_EXPIRES_S * _NS),
            "idle_heartbeat": int(_HEARTBEAT_S * _NS),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{lane.stream}.{lane.consumer}"
        lane.asked, lane.heard = _BATCH, asyncio.get_running_loop().time()
        try:
            await client.publish(subject, msgspec.json.encode(question), reply=lane.inbox)
        except BaseException as error:
            lane.forget()
            if isinstance(error, NatsError | OSError):
                raise self._connection.unavailable("take a question", error) from error
            raise

    async def _consume(self, client: Client, lane: _Lane) -> None:
        """Give a partition a new consumer at its place."""
        lane.forget()
        if lane.subscription is None or lane.client is not client:
            lane.client = client
            lane.inbox = client.new_inbox()
            # What it may hold is bounded by what is asked for.
            lane.subscription = await client.subscribe(
                lane.inbox, cb=lane.on_message, pending_msgs_limit=0, pending_bytes_limit=0
            )
        name = f"tenfold-{secrets.token_hex(8)}"
        await create_consumer(
            self._connection,
            lane.stream,
            name,
            {"deliver_policy": "by_start_sequence", "opt_start_seq": lane.next},
        )
        lane.begin(name)

    async def close(self) -> None:
        """See `Reader.close`."""
        self._closed = True
        self._held.clear()
        self._arrived.set()
        for lane in self._lanes:
            subscription, lane.subscription = lane.subscription, None
            client, consumer = lane.client, lane.consumer
            lane.forget()
            if subscription is None or client is None:
                continue
            try:
                await subscription.unsubscribe()
                if consumer:  # told and not asked: the server forgets it by itself as well
                    await client.publish(f"$JS.API.CONSUMER.DELETE.{lane.stream}.{consumer}")
            except (NatsError, OSError):
                continue  # the connection is gone, and they with it


async def create_consumer(
    connection: Connection, stream: str, name: str, start: dict[str, Any]
) -> dict[str, Any]:
    """Make a consumer that is forgotten by itself.

    Raises: BrokerUnavailableError.
    """
    config = {
        "name": name,
        "ack_policy": "none",
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": _FORGET_S * _NS,
        **start,
    }
    question = {"stream_name": stream, "config": config}
    try:
        return await connection.api(f"CONSUMER.CREATE.{stream}.{name}", question)
    except JetStreamError as error:
        raise BrokerUnavailableError(
            f"NATS gives no consumer of stream {stream}: {error} Nothing was read; the next try "
            "goes on at the same place. See whether the stream is there and has a leader "
            "(`nats stream info`)."
        ) from error
