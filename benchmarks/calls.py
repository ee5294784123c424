"""A call between two modules of one process: what the path adds to a plain await."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks.measure import Figure, Noise
from benchmarks.servers.contract import Things
from benchmarks.servers.module import ThingsModule
from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.ports.unit import CURRENT, Message
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import load_product

__all__ = ["measure"]

CALLS = 20_000
_ID = UUID("0190163d-8694-739b-aea5-966c26f8ad90")


def measure(rounds: int, noise: Noise) -> list[Figure]:
    """The same handler through a proxy and by itself, in turns."""
    return asyncio.run(_measure(rounds * 3, noise))


async def _measure(rounds: int, noise: Noise) -> list[Figure]:
    with tempfile.TemporaryDirectory() as data:
        product = load_product(Path(__file__).parent / "servers", "prototype")
        host = Host(product, data_dir=Path(data))
        await host.start()
        proxy: Any = host.arguments(_asks)["things"]
        plain = ThingsModule()
        token = CURRENT.set(_message(host))
        called, awaited = [], []
        for _ in range(rounds):
            noise.probe()
            called.append(await _time(proxy.get_thing))
            awaited.append(await _time(plain.get_thing))
        CURRENT.reset(token)
        await host.stop()
    added = [a - b for a, b in zip(called, awaited, strict=True)]
    return [
        Figure("a local call, added to a plain await", "us", added, "goal <= 3"),
        Figure("the plain await", "us", awaited),
    ]


async def _time(method: Any) -> float:
    began = time.process_time()
    for _ in range(CALLS):
        await method(_ID)
    return (time.process_time() - began) / CALLS * 1e6


def _message(host: Host) -> Message:
    """A command that is being handled, whose handler makes the calls."""
    envelope = Envelope(
        id="0" * 32,
        kind=Kind.COMMAND,
        target="bench.run",
        payload=None,
        principal=OPERATOR,
        tenant="main",
        trace=TraceContext(trace_id="1" * 32, span_id="2" * 16),
        at=host.clock.now(),
    )
    return Message(envelope, Kind.COMMAND, "bench", time.monotonic() + 3600, None)


def _asks(things: Things) -> None:
    """Says which module is wanted, as a mount does."""
