"""Events through each broker, one for each record beside packs of 500: appended, then read.

python -m benchmarks.brokers [--rounds N]

Every side is a loop of this process on a real server, one node, four partitions, which
is started for it; the servers run side by side, but only one is spoken to at a time. An event
is 200 bytes. 64 appends are under way at once. NATS syncs as it does by default, as the
others do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import uvloop

from benchmarks.measure import Figure, Noise, interleave
from tenfold.ports.broker import Broker, BrokerSettings, TopicSettings
from tenfold.runtimes.brokers import open_broker
from tenfold.runtimes.local_servers.start import start_local_servers
from tenfold.runtimes.local_servers.wanted import ServerWants
from tests.brokers.servers import kafka_server, rabbitmq_server

EVENT = bytes(200)
PARTITIONS = 4
AT_ONCE = 64
PACK = 500
SINGLY = 4_000
PACKED = 200_000


async def _append(broker: Broker, topic: str, events: int, pack: int) -> float:
    body = EVENT * pack
    left = iter(range(events // pack))
    began = time.perf_counter()

    async def work() -> None:
        for number in left:
            await broker.append(topic, number % PARTITIONS, {"tenfold-n": str(number)}, body)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return events / (time.perf_counter() - began)


async def _read(broker: Broker, topic: str, events: int, pack: int) -> float:
    began = time.perf_counter()
    reader = await broker.reader(topic, [0] * PARTITIONS)
    found = 0
    while found < events // pack:
        found += len(await reader.take(wait_s=5.0))
    await reader.close()
    return events / (time.perf_counter() - began)


async def _both(url: str, pack: int) -> tuple[float, float]:
    broker = open_broker(BrokerSettings(url=url, timeout_s=30.0))
    events, topic = (SINGLY if pack == 1 else PACKED), f"b{secrets.token_hex(6)}"
    try:
        await broker.ensure(topic, TopicSettings(partitions=PARTITIONS))
        await _append(broker, topic, 10 * PARTITIONS * pack, pack)  # connected, and warm
        topic += "x"
        await broker.ensure(topic, TopicSettings(partitions=PARTITIONS))
        return await _append(broker, topic, events, pack), await _read(broker, topic, events, pack)
    finally:
        await broker.close()


def _round(url: str, pack: int, reads: list[float]) -> float:
    appended, read = uvloop.run(_both(url, pack))
    reads.append(read)
    return appended


def main() -> None:
    """Print events a second of each broker that can be had here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.brokers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    noise = Noise()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tf-")))
        wants = ServerWants(postgres=False, valkey=False, broker=True, fast=True, discard=True)
        nats = stack.enter_context(start_local_servers(folder / "servers", wants, {}))
        urls = {"nats": nats.urls.broker_url or ""}
        for name, server in (("kafka", kafka_server), ("rabbitmq", rabbitmq_server)):
            try:
                urls[name] = stack.enter_context(server()).url
            except pytest.skip.Exception as error:
                print(error)
        sides: dict[str, Callable[[], float]] = {}
        reads: dict[str, list[float]] = {}
        for pack in (1, PACK):
            for name, url in urls.items():
                side = f"{name}, {'packs of 500' if pack > 1 else 'one a record'}"
                reads[side] = []
                sides[side] = partial(_round, url, pack, reads[side])
        values = interleave(sides, given.rounds, noise)
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    for side, each in values.items():
        print(Figure(f"{side}: appended", "events/s", each).line())
        print(Figure(f"{side}: read", "events/s", reads[side]).line())
    print(noise.line())


if __name__ == "__main__":
    main()
