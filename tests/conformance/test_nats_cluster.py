"""Three NATS servers that keep everything three times, of which any one may be lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenfold.adapters.nats.broker import NatsBroker
from tenfold.ports.broker import BrokerUnavailableError, Record, TopicSettings
from tenfold.runtimes.local_servers.probes import free_port, probe_nats
from tenfold.runtimes.local_servers.programs import find_nats
from tests.servers import missing

pytestmark = pytest.mark.anyio
THRICE = TopicSettings(partitions=1, replicas=3)
EACH = 40
"""Records that are told to be kept between two kills."""
_CONF = """\
server_name: n{number}
host: 127.0.0.1
port: {port}
jetstream {{ store_dir: "{folder}/n{number}", sync_interval: always }}
cluster {{
    name: tenfold
    host: 127.0.0.1
    port: {route}
    routes: [{routes}]
}}
"""


class Cluster:
    def __init__(self, folder: Path) -> None:
        program = find_nats(os.environ, ("path", "wheel"))
        if program is None:
            missing("NATS", "It comes as a wheel with `make test`.")
        ports, routes = ([free_port() for _ in range(3)] for _ in range(2))
        self.url = "nats://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        self._ports = ports
        self._commands: list[list[str]] = []
        self._servers: dict[int, subprocess.Popen[bytes]] = {}
        self._folder = folder
        for number, (port, route) in enumerate(zip(ports, routes, strict=True)):
            conf = folder / f"n{number}.conf"
            others = ", ".join(f'"nats-route://127.0.0.1:{each}"' for each in routes)
            conf.write_text(
                _CONF.format(number=number, port=port, route=route, routes=others, folder=folder)
            )
            self._commands.append([str(program.path), "-c", str(conf)])

    def start(self, number: int) -> None:
        """Start a server; returns when it answers."""
        with (self._folder / f"n{number}.log").open("ab") as log:
            server = subprocess.Popen(self._commands[number], stdout=log, stderr=log)
        self._servers[number] = server
        until = time.monotonic() + 20
        while probe_nats(self._ports[number]) != "ready":
            assert server.poll() is None, (self._folder / f"n{number}.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)

    def kill(self, number: int) -> None:
        self._servers[number].kill()
        self._servers[number].wait()

    def end(self) -> None:
        for number in self._servers:
            self.kill(number)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        for number in range(3):
            made.start(number)
        yield made
    finally:
        made.end()


async def insist(broker: NatsBroker, body: bytes) -> None:
    """Append until it is told that it is kept."""
    while True:
        try:
            return await broker.append("t", 0, {}, body)
        except BrokerUnavailableError:
            await asyncio.sleep(0.05)


async def test_what_was_told_to_be_kept_is_there_whichever_server_was_lost(
    cluster: Cluster,
) -> None:
    broker = NatsBroker(cluster.url, timeout_s=2.0)
    async with asyncio.timeout(60):
        while True:  # the servers have to find one another first
            try:
                assert await broker.ensure("t", THRICE) == 1
                break
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
        reader = await broker.reader("t", [0])
        told = 0
        for number in (None, 0, 1, 2):
            if number is not None:
                cluster.kill(number)
            for _ in range(EACH):
                await insist(broker, str(told).encode())
                told += 1
            if number is not None:
                await asyncio.to_thread(cluster.start, number)
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
