"""Three NATS servers that keep everything three times, of which any one may be lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.ports.broker import BrokerUnavailableError, Record, TopicSettings
from tenfold.runtimes.local_servers.probes import free_port
from tests.brokers.servers import BrokerServer, nats_node

pytestmark = pytest.mark.anyio
THRICE = TopicSettings(partitions=1, replicas=3)
EACH = 40
"""Records that are told to be kept between two kills."""
_CONF = """\
server_name: n{number}
host: 127.0.0.1
port: {port}
jetstream {{ store_dir: "{folder}/data", sync_interval: always }}
cluster {{
    name: tenfold
    host: 127.0.0.1
    port: {route}
    routes: [{routes}]
}}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[BrokerServer]]:
    ports, routes = ([free_port() for _ in range(3)] for _ in range(2))
    others = ", ".join(f'"nats-route://127.0.0.1:{each}"' for each in routes)
    made: list[BrokerServer] = []
    for number, (port, route) in enumerate(zip(ports, routes, strict=True)):
        folder = tmp_path / f"n{number}"
        conf = _CONF.format(number=number, port=port, route=route, routes=others, folder=folder)
        made.append(nats_node(folder, port, conf))
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()


async def insist(broker: NatsBroker, body: bytes) -> None:
    """Append until it is told that it is kept."""
    while True:
        try:
            return await broker.append("t", 0, {}, body)
        except BrokerUnavailableError:
            await asyncio.sleep(0.05)


async def test_what_was_told_to_be_kept_is_there_whichever_server_was_lost(
    cluster: list[BrokerServer],
) -> None:
    broker = NatsBroker(",".join(each.url for each in cluster), timeout_s=2.0)
    async with asyncio.timeout(60):
        while True:  # the servers have to find one another first
            try:
                assert await broker.ensure("t", THRICE) == 1
                break
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
        reader = await broker.reader("t", [0])
        told = 0
        for lost in (None, *cluster):
            if lost is not None:
                lost.kill()
            for _ in range(EACH):
                await insist(broker, str(told).encode())
                told += 1
            if lost is not None:
                lost.launch()
                await asyncio.to_thread(lost.wait)
        found: list[Record] = []
        while not found or found[-1].body != str(told - 1).encode():
            try:
                found += await reader.take(wait_s=1.0)
            except BrokerUnavailableError:
                continue
    numbers = [int(each.body) for each in found]
    assert sorted(set(numbers)) == list(range(told))  # twice, where nobody knew, and never less
    assert numbers == sorted(numbers)
    assert [each.offset for each in found] == list(range(len(found)))
    await reader.close()
    await broker.close()
