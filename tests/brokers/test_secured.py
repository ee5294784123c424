"""Kafka and RabbitMQ over TLS, with a user and a password, as the page on brokers says it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tenfold.ports.broker import BrokerSettings, BrokerUnavailableError, TopicSettings
from tenfold.runtimes.brokers import open_broker
from tests.brokers.servers import BrokerServer, Tls, kafka_server, rabbitmq_server

pytestmark = pytest.mark.anyio
Start = Callable[[Tls], AbstractContextManager[BrokerServer]]
ONE = TopicSettings(partitions=1)


@pytest.mark.parametrize("start", [kafka_server, rabbitmq_server])
async def test_who_knows_the_authority_and_the_password_is_let_in_and_nobody_else(
    start: Start, tmp_path: Path
) -> None:
    with start(Tls(tmp_path / "tls")) as server:
        broker = open_broker(BrokerSettings(url=server.url, timeout_s=30.0))
        await broker.ensure("t", ONE)
        await broker.append("t", 0, {"a": "b"}, b"hello")
        reader = await broker.reader("t", [0])
        async with asyncio.timeout(30):
            (record,) = await reader.take(wait_s=30)
        assert (record.body, record.headers) == (b"hello", {"a": "b"})
        await reader.close()
        await broker.close()
        wrong = re.sub("secret@|guest@", "wrong@", server.url)
        stranger = re.sub("ssl.ca.location=.*|cafile=.*", "", server.url).rstrip("?&")
        for url in (wrong, stranger):
            assert url != server.url
            other = open_broker(BrokerSettings(url=url, timeout_s=3.0))
            with pytest.raises(BrokerUnavailableError) as raised:
                await other.ensure("t", ONE)
            assert "wrong" not in str(raised.value)
            await other.close()
