"""The port of the broker: logs that outlive the process that writes them, read by many.

A broker carries events between services that share no database. It is asked for
little, so that Kafka, NATS JetStream and RabbitMQ can all keep it: topics of a few
partitions, each a log to which is appended and which is read from any place on.
Who reads keeps its own place, beside the effect of what it read; the broker knows
nothing of it, so that no acknowledgement can be lost or come too early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Protocol

import msgspec

from tenfold.contracts.errors import Outcome, TenfoldError
from tenfold.contracts.structs import Struct

__all__ = [
    "Bounds",
    "Broker",
    "BrokerSettings",
    "BrokerUnavailableError",
    "Reader",
    "Record",
    "TopicSettings",
]


class BrokerUnavailableError(TenfoldError):
    """The broker did not answer in time; what is published waits in the outbox until it does.

    Of an append it is not known whether it was done: `MAYBE_DONE`. It is safe to append
    the same again, since a reader drops what it has seen.
    """

    code = "broker.unavailable"
    outcome = Outcome.MAYBE_DONE


class TopicSettings(Struct):
    """How a topic is made, where it is not there yet.

    `partitions`: logs that it consists of. `replicas`: servers that keep it, as many as
    there are at the most. `retain_s`: for how long at least a record can be read.
    `max_record_bytes` bounds a body.
    """

    partitions: Annotated[int, msgspec.Meta(ge=1, le=64)] = 4
    replicas: Annotated[int, msgspec.Meta(ge=1, le=7)] = 1
    retain_s: Annotated[float, msgspec.Meta(ge=60)] = 604_800.0
    max_record_bytes: Annotated[int, msgspec.Meta(ge=1024, le=16 * 1024 * 1024)] = 900_000


class BrokerSettings(TopicSettings):
    """What carries events between services: `[topologies.X.broker]`.

    `url` names its kind and servers: `kafka://host:port,host:port`, `nats://host:port` or
    `amqp://user:password@host:port/vhost`. `timeout_s` bounds each word with it. The rest is
    for topics that are not there yet.
    """

    url: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0


class Record(Struct):
    """One record of one partition. `at` is when it was appended, by the broker's clock."""

    partition: int
    offset: int
    at: datetime
    headers: Mapping[str, str]
    body: bytes


class Bounds(Struct):
    """What a partition holds: from `first` on, and the next that is appended gets `after` or more.

    The newest record is at `after - 1`. An empty one has `first == after`, and one that never
    had a record 0 for both. Offsets grow and may have gaps.
    """

    first: int
    after: int


class Reader(Protocol):
    """A place in each partition of one topic, which moves on as records are taken."""

    async def take(self, *, wait_s: float, most: int = 500) -> Sequence[Record]:
        """The next records, in order within each partition; none when the time is up.

        Returns as soon as there are any. Records that were appended before it began are
        given sooner or later, each once. A cancelled call loses none: the next one gives them.

        Raises: BrokerUnavailableError, the next call goes on at the same place; for good once
            it is closed.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds; who waits, or comes later, is told. Safe to call twice."""
        ...


class Broker(Protocol):
    """A broker's logs. One object serves a process; it belongs to its event loop."""

    @property
    def kind(self) -> str:
        """What it is, for people: `kafka`, `nats` or `rabbitmq`."""
        ...

    async def ensure(self, topic: str, settings: TopicSettings) -> int:
        """Make a topic unless it is there; how many partitions it has.

        Several processes may do it at once. One that is there is left as it is.

        Args:
            topic: letters, digits, `.`, `-` and `_`, at most 200. To Kafka two that differ only
                in `.` and `_` are one, and it refuses the second.

        Raises: BrokerUnavailableError.
        """
        ...

    async def append(
        self, topic: str, partition: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Append one record; returns once it is kept as the adapter's guarantees say.

        A record that is appended after another one's append has returned comes after it.
        Where it came to lie is not told: RabbitMQ does not say.

        Args:
            headers: names of letters, digits, `-` and `_`; values are any text.

        Raises: BrokerUnavailableError (MAYBE_DONE); ValueError where it is larger than the
            broker takes, which is the caller's to prevent.
        """
        ...

    async def bounds(self, topic: str) -> Sequence[Bounds]:
        """What each partition holds now. Raises: BrokerUnavailableError."""
        ...

    async def offsets_at(self, topic: str, at: datetime) -> Sequence[int]:
        """The first offset of each partition that was not appended before a moment.

        Where there is none yet, that of the next. Raises: BrokerUnavailableError.
        """
        ...

    async def reader(self, topic: str, offsets: Sequence[int]) -> Reader:
        """Read a topic from an offset of each partition on.

        One that is not kept any more counts as the first that is.

        Raises: BrokerUnavailableError.
        """
        ...

    async def close(self) -> None:
        """End its connections. Safe to call twice."""
        ...
