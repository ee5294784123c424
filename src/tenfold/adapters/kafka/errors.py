"""Kafka's errors, for people."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from confluent_kafka import KafkaException

from tenfold.adapters.kafka.config import servers_of
from tenfold.ports.broker import BrokerUnavailableError

__all__ = ["bounded", "unavailable"]

_GRACE_S = 0.5
"""Beyond what librdkafka itself was given."""


def unavailable(url: str, timeout_s: float, error: BaseException) -> BrokerUnavailableError:
    """The error for people, of one of the library's."""
    said = error.args[0] if isinstance(error, KafkaException) and error.args else error
    text = said.str() if hasattr(said, "str") else str(said)
    return BrokerUnavailableError(
        f"Kafka at {servers_of(url)} did not do it within {timeout_s:g} s: "
        f"{text or 'it did not answer'}. Whether it was done is not known; doing it again is safe. "
        "See that its servers run, that they reach each other, and that "
        "`[topologies.X.broker] url` names them."
    )


@asynccontextmanager
async def bounded(url: str, timeout_s: float) -> AsyncIterator[None]:
    """Bounds what stands in it, and translates its errors. Raises: BrokerUnavailableError."""
    try:
        async with asyncio.timeout(timeout_s + _GRACE_S):
            yield
    except (KafkaException, TimeoutError) as error:
        raise unavailable(url, timeout_s, error) from error
