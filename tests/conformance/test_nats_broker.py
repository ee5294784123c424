"""The broker on NATS JetStream passes the suite, on a server of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from nats.aio.client import Client

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.adapters.nats.connection import Connection
from tenfold.adapters.nats.reader import NatsReader
from tenfold.adapters.nats.words import stream_of
from tenfold.ports.broker import BrokerUnavailableError
from tenfold.testing import broker_away_suite, broker_reader_suite, broker_suite
from tests.brokers.bench import ServerBench
from tests.servers import OwnNats


class NatsBench(ServerBench):
    server: OwnNats

    async def trim(self, topic: str, partition: int, before: int) -> None:
        connection = Connection(self.server.url, 5.0)
        try:
            question = {"seq": before + 1}
            await connection.api(f"STREAM.PURGE.{stream_of(topic, partition)}", question)
        finally:
            await connection.close()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)


@pytest.fixture(scope="module")
def nats(own_nats: Callable[..., OwnNats]) -> OwnNats:
    return own_nats()


@pytest.fixture
async def bench(nats: OwnNats) -> AsyncIterator[NatsBench]:
    made = NatsBench(nats, timeout_s=2.0)
    yield made
    await made.close()


class TestTopics(broker_suite.TopicCases):
    pass


class TestRecords(broker_suite.RecordCases):
    pass


class TestBounds(broker_suite.BoundsCases):
    pass


class TestReaders(broker_reader_suite.ReaderCases):
    pass


class TestAway(broker_away_suite.AwayCases):
    pass


@pytest.mark.anyio
async def test_what_has_come_is_given_while_the_server_is_away(bench: NatsBench) -> None:
    broker, topic = await broker_suite.made(bench)
    await broker_suite.fill(broker, topic, 0, ["one", "two", "three"])
    reader = await broker.reader(topic, [0, 0])
    assert isinstance(reader, NatsReader)
    assert broker_suite.bodies(await reader.take(wait_s=10, most=1)) == ["one"]
    async with asyncio.timeout(10):
        while len(reader._held) < 2:
            await asyncio.sleep(0.001)
    await bench.stop()
    try:
        async with asyncio.timeout(10):
            while reader._connection.up:
                await asyncio.sleep(0.001)
        async with asyncio.timeout(1):  # half of what a word with the server may take
            assert broker_suite.bodies(await reader.take(wait_s=5)) == ["two", "three"]
    finally:
        await bench.start()


@pytest.mark.anyio
async def test_a_word_and_the_connection_that_it_needs_share_one_limit(bench: NatsBench) -> None:
    """The server is reached late, and does not answer then."""
    broker = await bench.open()
    assert isinstance(broker, NatsBroker)
    connection = broker._connection
    client = await connection.client()
    given: list[float] = []

    async def late() -> Client:
        await asyncio.sleep(0.5)
        return client

    async def never(*_: object, timeout: float, **__: object) -> None:
        given.append(timeout)
        raise TimeoutError

    connection.client = late  # type: ignore[method-assign]
    client.request = never  # type: ignore[method-assign,assignment]
    with pytest.raises(BrokerUnavailableError):
        await connection.api("INFO")
    assert given[0] <= connection.timeout_s - 0.4
