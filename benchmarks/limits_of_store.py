"""What the store can do before and after the step from prototype to growth, on one machine.

python -m benchmarks.limits_of_store [--rounds N] [--shapes prototype 1+1 2+1 4+2] [--most-ms 500]

A shape is the prototype (one process, SQLite) or so many web and worker
processes on PostgreSQL and Valkey, all of it on this machine. Orders of three
of so many products are placed, 32 at once, and counted until all that they set
off is settled. Reads of the catalogue are offered at a rate that grows until
one in a hundred waits longer than the bound: one page for each four products.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_postgres import processes_of
from benchmarks.loading import Loaded, load_from_outside
from benchmarks.measure import Figure, Noise, process_rss_mb
from benchmarks.processes import STORE, TENFOLD, Server, free_port, load, request, serving
from benchmarks.servers.postgres import fresh_database
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.local_servers.start import start_local_servers
from tenfold.runtimes.local_servers.wanted import ServerWants
from tenfold.runtimes.topology import load_product

__all__ = ["main"]

ORDERS = 300
AT_ONCE = 32
PHASE_S = 3.0
CONNECTIONS = 200
FIRST_PER_S = 200.0
STEP = 1.3
MOST_FAILED = 0.01
PATIENT = {"TENFOLD_SHEDDING__WAIT_S": "30", "TENFOLD_SHEDDING__STALE_S": "30"}
"""Nobody is turned away: the bound on the wait decides what is too much, for every shape alike."""


@dataclass(frozen=True)
class Shape:
    """How the store runs: web and worker processes, or none for the prototype's one."""

    name: str
    web: int = 0
    workers: int = 0

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read `prototype`, or a number of web and of worker processes such as `2+1`."""
        if text == "prototype":
            return cls(text)
        web, workers = (int(part) for part in text.split("+"))
        return cls(f"growth {text}", web, workers)

    @property
    def topology(self) -> str:
        """The topology's name."""
        return "growth" if self.web else "prototype"


@contextmanager
def _running(shape: Shape, data: Path) -> Iterator[Server]:
    port = free_port()
    command = [
        *TENFOLD, "run", "--topology", shape.topology, "--port", str(port),
        "--data", str(data),
    ]  # fmt: skip
    if shape.web:
        command += ["--web", str(shape.web), "--workers", str(shape.workers)]
    with serving(command, port, "/_tenfold/ready", STORE) as server:
        yield server


def _measure(shape: Shape, given: argparse.Namespace, noise: Noise) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with _running(shape, data) as server:
            first_s = server.started_s
        with _running(shape, data) as server:
            yield Figure(f"{shape.name}: first start to ready", "s", [first_s])
            yield Figure(f"{shape.name}: a further start to ready", "s", [server.started_s])
            rounds = given.rounds
            products = _stocked(server, given.products)
            noise.probe()
            rates = [asyncio.run(_orders(shape, server, data, products)) for _ in range(rounds + 1)]
            yield Figure(f"{shape.name}: orders until settled", "orders/s", rates[1:])
            noise.probe()
            yield from _reads(shape, server, products, rounds, given.most_ms)
            memory = [process_rss_mb(pid) for pid in _pids(shape, server).values()]
            yield Figure(f"{shape.name}: memory of a process, after the load", "MB", memory)
            yield Figure(f"{shape.name}: memory of all its processes", "MB", [sum(memory)])


def _pids(shape: Shape, server: Server) -> dict[str, int]:
    return {"supervisor": server.pid, **(processes_of(server.pid) if shape.web else {})}


def _stocked(server: Server, count: int) -> list[str]:
    """So many new products with all the stock they need."""
    price = {"amount": "2.55", "currency": "GBP"}
    adds = [
        json.dumps({"sku": f"LIMIT{number}", "name": "White hanging heart", "price": price})
        for number in range(count)
    ]
    new = [request("POST", "/v1/products", server.port, body.encode()) for body in adds]
    products = [json.loads(each)["id"] for each in load(server.port, new, 8)]
    stock = json.dumps({"quantity": 1_000_000}).encode()
    paths = [f"/v1/products/{product}/stock" for product in products]
    load(server.port, [request("POST", path, server.port, stock) for path in paths], 4)
    return products


async def _orders(shape: Shape, server: Server, data: Path, products: Sequence[str]) -> float:
    """Orders a second, from the first request until nothing is left to do."""
    messages = [_order(server.port, products, number) for number in range(ORDERS)]
    product = load_product(STORE, shape.topology, overrides={"data": str(data)})
    async with connect_product(product, command="bench") as connection:
        began = time.perf_counter()
        await asyncio.to_thread(_placed, server, messages)
        if not await connection.desk.wait_idle(120):
            raise RuntimeError("the store did not settle in two minutes")
        return ORDERS / (time.perf_counter() - began)


def _placed(server: Server, messages: Sequence[bytes]) -> None:
    seen = load_from_outside(server.port, messages, len(messages), AT_ONCE)
    if seen.failed:
        raise RuntimeError(f"{seen.failed} orders were not taken: {seen.refusal}")


def _order(port: int, products: Sequence[str], number: int) -> bytes:
    lines = [
        {"product_id": products[(number + at) % len(products)], "quantity": 1} for at in range(3)
    ]
    body = {"customer_id": str(10_000 + number % 100), "lines": lines}
    return request("POST", "/v1/orders", port, json.dumps(body).encode())


def _reads(
    shape: Shape, server: Server, products: Sequence[str], rounds: int, most_ms: float
) -> Iterator[Figure]:
    """The most reads a second that are answered in time, and how long they take there."""
    port = server.port
    messages = [request("GET", f"/v1/products/{product}", port) for product in products]
    for at in range(0, len(products) * 5 // 4, 5):
        messages.insert(at, request("GET", "/v1/products?limit=20", port))
    best = [_most(port, messages, most_ms) for _ in range(rounds)]
    yield Figure(f"{shape.name}: reads in time", "reads/s", [each.per_s for each in best])
    yield Figure(f"{shape.name}: p95 there", "ms", [each.p95_ms for each in best])
    yield Figure(f"{shape.name}: p99 there", "ms", [each.p99_ms for each in best])


def _most(port: int, messages: Sequence[bytes], most_ms: float) -> Loaded:
    """Offer more and more until it is too much, twice in a row; what the last good rate showed."""
    rate, best, missed = FIRST_PER_S, None, 0
    while missed < 2:
        seen = load_from_outside(port, messages, int(rate * PHASE_S), CONNECTIONS, per_s=rate)
        in_time = seen.p99_ms <= most_ms and seen.failed <= MOST_FAILED * rate * PHASE_S
        if in_time:
            best, missed = seen, 0
            rate *= STEP
        else:
            missed += 1  # once may have been the machine
    if best is None:
        raise RuntimeError(f"not even {rate:.0f} reads a second were answered in time")
    return best


def main() -> None:
    """Measure every shape in turn, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits_of_store")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shapes", nargs="+", default=["prototype", "1+1", "2+1", "4+2"])
    parser.add_argument("--products", type=int, default=300)
    parser.add_argument("--most-ms", type=float, default=500.0)
    given = parser.parse_args()
    noise = Noise()
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wants = ServerWants(discard=True)
        servers = stack.enter_context(start_local_servers(folder, wants, {})).urls
        os.environ.update(PATIENT)
        for shape in map(Shape.parse, given.shapes):
            with fresh_database(servers.database_url) as url:
                os.environ["TENFOLD_DATABASE_URL"] = url
                if servers.cache_url:
                    os.environ["TENFOLD_CACHE_URL"] = servers.cache_url
                for figure in _measure(shape, given, noise):
                    print(figure.line(), flush=True)
    print(noise.line())


if __name__ == "__main__":
    main()
