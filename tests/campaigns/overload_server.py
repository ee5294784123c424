"""One process of a product with an operation that takes 2 ms of CPU. Arguments: port, data."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from pathlib import Path
from typing import Protocol, final

import uvicorn
import uvloop

from tenfold.contracts.contract import Contract
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.operations import query
from tenfold.contracts.structs import Struct
from tenfold.edges.http.app import http_app
from tenfold.edges.http.front import Front
from tenfold.edges.http.settings import HttpProduct, ReadinessState
from tenfold.path.door import Door
from tenfold.path.shedding import Shedder, SheddingSettings
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.front_protocol import fronted
from tenfold.runtimes.host import Host
from tenfold.runtimes.http_protocol import bounded_protocol
from tenfold.runtimes.topology import Product, Topology

WORK_S = 0.002


class Done(Struct):
    spun: int


class Mill(Contract, Protocol):
    @query("GET /v1/work", who="anyone")
    async def work(self) -> Done: ...

    @query("GET /v1/wait", who="anyone")
    async def wait(self) -> Done: ...


def _spin() -> Done:
    until, spun = time.thread_time() + WORK_S, 0
    while time.thread_time() < until:
        spun += 1
    return Done(spun=spun)


@final
class MillModule(Mill):
    async def work(self) -> Done:
        return _spin()

    async def wait(self) -> Done:
        await asyncio.sleep(0)  # the work comes after something that was waited for
        return _spin()


async def main(port: int, data: Path, mode: str) -> None:
    product = Product(
        name="mill",
        root=data,
        modules={"mill": MillModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )
    host = Host(product, data_dir=data, create_tables=True)
    await host.start()
    shedder = Shedder(SheddingSettings(), SystemClock())
    door = Door(host.operations, shedder=shedder)
    host._calls._door = door if mode != "open" else None

    async def metrics() -> bytes:
        return repr(shedder.counts).encode()

    http = HttpProduct(
        name="mill",
        version="0",
        operations=host.operations,
        principal_of=lambda _: OPERATOR,
        readiness=lambda: ReadinessState.READY,
        metrics=metrics,
        door=door if mode != "open" else None,
        edge=host.stops.edge,
    )
    protocol = bounded_protocol(max_head_bytes=40_000, head_timeout_s=10.0)
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    listener.setblocking(False)
    if mode == "front":
        protocol = fronted(protocol, Front(http, shedder), listener)
    config = uvicorn.Config(
        http_app(host.entry, http),
        http=protocol,
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        backlog=2048,
        timeout_keep_alive=60,
    )
    await uvicorn.Server(config).serve(sockets=[listener])
    await host.stop()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
