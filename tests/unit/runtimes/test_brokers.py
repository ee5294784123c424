"""A broker is opened by its URL; what is wrong with one is said."""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace

import pytest
from confluent_kafka import KafkaError

from tenfold.adapters.kafka.reader import KafkaReader
from tenfold.adapters.nats.connection import Connection
from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.broker import BrokerSettings, BrokerUnavailableError
from tenfold.runtimes.brokers import check_broker, open_broker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("kafka://127.0.0.1:9092,127.0.0.1:9093", "kafka"),
        ("nats://127.0.0.1:4222", "nats"),
        ("amqp://guest:guest@127.0.0.1:5672/", "rabbitmq"),
    ],
)
async def test_a_urls_scheme_says_which_broker_it_is(url: str, kind: str) -> None:
    broker = open_broker(BrokerSettings(url=url))  # which connects to nothing yet
    assert broker.kind == kind
    await broker.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafak://127.0.0.1:9092", "Did you mean `kafka`"),
        ("http://127.0.0.1", "expected one of kafka://"),
        ("127.0.0.1:4222", "expected one of"),
        ("nats://", "expected one of"),
        ("nats://127.0.0.1:many", "cannot be read"),
        ("kafka://127.0.0.1:9092?no.such.setting=1", "no.such.setting"),
    ],
)
async def test_a_wrong_url_is_told(url: str, told: str) -> None:
    with pytest.raises(UserMistakeError, match=told.replace(".", r"\.")):
        open_broker(BrokerSettings(url=url))


def test_what_is_no_url_is_not_told_whole_since_it_may_have_a_password() -> None:
    with pytest.raises(UserMistakeError) as caught:
        check_broker(BrokerSettings(url="me:secret@broker.example"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://a:4222", ["nats://a:4222"]),
        ("tls://u:p@a:4222,b:4222", ["tls://u:p@a:4222", "tls://u:p@b:4222"]),
        ("nats://u:p@a:4222,nats://b:4222", ["nats://u:p@a:4222", "nats://u:p@b:4222"]),
        ("nats://u:p,q@a:4222, nats://v:r@b:4222", ["nats://u:p,q@a:4222", "nats://v:r@b:4222"]),
        ("nats://a:4222,tls://b:4222", ["tls://a:4222", "tls://b:4222"]),
    ],
)
def test_what_is_said_once_of_natss_servers_is_for_all(url: str, servers: list[str]) -> None:
    connection = Connection(url, 1.0)
    assert connection._servers == servers
    told = str(connection.unavailable("connect", OSError()))
    assert not any(secret in told for secret in ("u:p", "v:r"))


async def test_a_connection_that_is_closed_while_it_is_made_is_not_left_behind() -> None:
    """A server that takes its time to greet, and learns that its caller has gone."""
    came, gone = asyncio.Event(), asyncio.Event()
    greet = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await greet.wait()
        info = {"server_id": "x", "version": "2.10.0", "max_payload": 1000, "headers": True}
        writer.write(b"INFO " + json.dumps(info).encode() + b"\r\n")
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")
        gone.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connection = Connection(f"nats://127.0.0.1:{port}", 5.0)
    connecting = asyncio.create_task(connection.client())
    async with asyncio.timeout(20):
        await came.wait()
        await connection.close()
        greet.set()
        with pytest.raises(BrokerUnavailableError, match="closed here"):
            await connecting
        await gone.wait()
    server.close()


def test_kafka_gives_the_records_that_came_beside_an_error() -> None:
    reader = KafkaReader.__new__(KafkaReader)
    reader._away, reader._url, reader._timeout_s = False, "kafka://k:9092", 1.0
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    refused, good = SimpleNamespace(error=lambda: error), SimpleNamespace(error=lambda: None)
    given = {
        "partition": 0,
        "offset": 5,
        "timestamp": (1, 1_700_000_000_000),
        "headers": [],
        "value": b"a",
    }
    for name, value in given.items():
        setattr(good, name, lambda value=value: value)
    assert [each.offset for each in reader._read([refused, good])] == [5]
    with pytest.raises(BrokerUnavailableError):
        reader._read([refused])
    passing = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "busy", retriable=True)
    assert reader._read([SimpleNamespace(error=lambda: passing)]) == []


@pytest.mark.parametrize(
    ("url", "library", "extra"),
    [
        ("kafka://127.0.0.1:9092", "confluent_kafka", "kafka"),
        ("nats://127.0.0.1:4222", "nats", "nats"),
        ("amqp://127.0.0.1:5672", "aio_pika", "rabbitmq"),
    ],
)
async def test_a_library_that_is_missing_is_told_with_what_brings_it(
    url: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == library or name.startswith(f"tenfold.adapters.{extra}"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UserMistakeError, match=rf"pip install 'tenfold\[{extra}\]'"):
        open_broker(BrokerSettings(url=url))
