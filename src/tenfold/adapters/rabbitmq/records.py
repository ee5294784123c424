"""How a record lies in a stream."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aio_pika.abc import AbstractIncomingMessage

from tenfold.ports.broker import Record

__all__ = ["MARK", "is_mark", "offset_of", "read_record", "written"]

MARK: Final = "tenfold-mark"
"""The header of what is no record: it was written so that a stream is not empty."""
_AT: Final = "tenfold-at"
_SERVERS_AT: Final = "timestamp_in_ms"
_OFFSET: Final = "x-stream-offset"
_OWN: Final = (MARK, _AT, _SERVERS_AT, _OFFSET)
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def written(headers: Mapping[str, str]) -> dict[str, str | int]:
    """Headers as they are sent, with the moment.

    RabbitMQ does not say when a record was appended, unless its message interceptor
    `set_header_timestamp` is on. Without it the clock is the appender's.
    """
    return {**headers, _AT: time.time_ns() // 1_000_000}


def is_mark(message: AbstractIncomingMessage) -> bool:
    """Whether it is not a record."""
    return MARK in message.headers


def offset_of(message: AbstractIncomingMessage) -> int:
    """Where in its stream a message lies."""
    offset: Any = message.headers[_OFFSET]
    return int(offset)


def read_record(message: AbstractIncomingMessage, partition: int) -> Record:
    """A message as a record."""
    headers: Mapping[str, Any] = message.headers
    at_ms = int(headers.get(_SERVERS_AT) or headers.get(_AT) or 0)
    return Record(
        partition=partition,
        offset=offset_of(message),
        at=_START + timedelta(milliseconds=at_ms),
        headers={
            name: value.decode() if isinstance(value, bytes) else str(value)
            for name, value in headers.items()
            if name not in _OWN
        },
        body=message.body,
    )
