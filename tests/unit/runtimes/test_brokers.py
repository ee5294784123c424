"""A broker is opened by its URL; what is wrong with one is said."""

from __future__ import annotations

import sys

import pytest

from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.broker import BrokerSettings
from tenfold.runtimes.brokers import open_broker

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
    broker = await open_broker(BrokerSettings(url=url))  # which connects to nothing yet
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
        await open_broker(BrokerSettings(url=url))


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
        await open_broker(BrokerSettings(url=url))
