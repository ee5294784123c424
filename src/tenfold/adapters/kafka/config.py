"""What librdkafka is told, made of a broker's URL."""

from __future__ import annotations

import logging
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["LOG", "consumer_config", "producer_config", "servers_of", "shared_config"]

LOG: Final = logging.getLogger("tenfold.kafka")
_AGAIN_MS: Final = 50
_AGAIN_MOST_MS: Final = 1_000
_LARGEST: Final = 17 * 1024 * 1024
_BATCH_BYTES: Final = 512 * 1024
"""Under what a topic takes at the least, for a whole batch is held to a topic's largest record."""
_UNSENT_KB: Final = 64 * 1024
_HELD_KB: Final = 8 * 1024
"""What a reader may hold untaken, beside the one answer that is being read."""


def servers_of(url: str) -> str:
    """The servers of a URL, for people: without a password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def shared_config(url: str, timeout_s: float) -> dict[str, Any]:
    """What clients of each kind have in common.

    A user and password in the URL mean SASL; the URL's query has whatever else librdkafka
    knows, as in `?security.protocol=SASL_SSL&ssl.ca.location=/etc/ca.pem`.
    """
    parts = urlsplit(url)
    timeout_ms = int(timeout_s * 1000)
    config: dict[str, Any] = {
        "bootstrap.servers": servers_of(url),
        "client.id": "tenfold",
        "log_level": 2,  # each lost connection is a line otherwise; errors say it when it matters
        "socket.timeout.ms": max(timeout_ms, 10),
        "socket.connection.setup.timeout.ms": max(timeout_ms, 1_000),
        "socket.keepalive.enable": True,
        "reconnect.backoff.ms": _AGAIN_MS,
        "reconnect.backoff.max.ms": _AGAIN_MOST_MS,
        "retry.backoff.ms": _AGAIN_MS,
        "allow.auto.create.topics": False,
    }
    user, _, secret = parts.netloc.rpartition("@")[0].partition(":")
    if user:
        config |= {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": unquote(user),
            "sasl.password": unquote(secret),
        }
    return config | dict(parse_qsl(parts.query))


def producer_config(url: str, timeout_s: float) -> dict[str, Any]:
    """An idempotent producer, which repeats without doubling or reordering."""
    return {
        "enable.idempotence": True,
        "acks": "all",
        "delivery.timeout.ms": int(timeout_s * 1000),
        "request.timeout.ms": min(int(timeout_s * 1000), 30_000),
        # Partitions are given; should anything else come by, it is placed as Java places it.
        "partitioner": "murmur2_random",
        "linger.ms": 0,
        "batch.size": _BATCH_BYTES,
        "message.max.bytes": _LARGEST,
        "queue.buffering.max.kbytes": _UNSENT_KB,
        **shared_config(url, timeout_s),
    }


def consumer_config(url: str, timeout_s: float) -> dict[str, Any]:
    """A consumer of given partitions from given offsets, which commits nothing anywhere."""
    return {
        "group.id": "tenfold",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "max.poll.interval.ms": 86_400_000,  # it belongs to no group, and may rest
        "fetch.wait.max.ms": 250,
        "fetch.error.backoff.ms": _AGAIN_MS,
        "fetch.message.max.bytes": 2 * 1024 * 1024,
        "fetch.max.bytes": _LARGEST,
        "receive.message.max.bytes": _LARGEST + 1024 * 1024,
        "queued.min.messages": 500,
        "queued.max.messages.kbytes": _HELD_KB,
        **shared_config(url, timeout_s),
    }
