"""The store's order over HTTP until all that it sets off is settled, beside a competent peer."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Figure, Noise, interleave, process_cpu_s
from benchmarks.processes import (
    STORE,
    Server,
    load,
    product_server,
    request,
    uvicorn_server,
)
from tenfold.runtimes.connect import connect_product
from tenfold.runtimes.topology import load_product

__all__ = ["measure"]

ORDERS = 400
PRODUCTS = 20
LINES = 3
CONNECTIONS = 32


def measure(rounds: int, noise: Noise) -> list[Figure]:
    """Orders a second until settled, and processor time for each, of both."""
    with ExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(product_server(STORE, data / "store"))
        os.environ["BENCH_DATA"] = str(data)
        peer = stack.enter_context(uvicorn_server("benchmarks.servers.order_peer:app"))
        cpu: dict[str, list[float]] = {"Tenfold": [], "FastAPI": []}
        sides = {
            "Tenfold": _side(store, _store_products(store), _store_settled(data), cpu["Tenfold"]),
            "FastAPI": _side(peer, _peer_products(peer), _peer_settled(peer), cpu["FastAPI"]),
        }
        for side in sides.values():
            side()
        for values in cpu.values():
            values.clear()
        found = interleave(sides, rounds, noise)
    return [
        *(Figure(f"order until settled, {n}", "orders/s", v) for n, v in found.items()),
        Figure(
            "order until settled, Tenfold over FastAPI",
            "x",
            [a / b for a, b in zip(found["Tenfold"], found["FastAPI"], strict=True)],
            "goal 10",
        ),
        *(Figure(f"processor time for an order, {n}", "ms", v) for n, v in cpu.items()),
        Figure(
            "processor time for an order, FastAPI over Tenfold",
            "x",
            [b / a for a, b in zip(cpu["Tenfold"], cpu["FastAPI"], strict=True)],
            "goal 10",
        ),
    ]


def _side(
    server: Server, products: list[str], settled: Callable[[], None], cpu: list[float]
) -> Callable[[], float]:
    orders = [_order(server.port, products, number) for number in range(ORDERS)]

    def run() -> float:
        before, began = process_cpu_s(server.pid), time.perf_counter()
        load(server.port, orders, CONNECTIONS)
        settled()
        took = time.perf_counter() - began
        cpu.append((process_cpu_s(server.pid) - before) / ORDERS * 1000)
        return ORDERS / took

    return run


def _order(port: int, products: list[str], number: int) -> bytes:
    lines = [
        {"product_id": products[(number + at) % len(products)], "quantity": 1}
        for at in range(LINES)
    ]
    body = {"customer_id": str(10_000 + number % 100), "lines": lines}
    return request("POST", "/v1/orders", port, json.dumps(body).encode())


def _store_products(server: Server) -> list[str]:
    made = []
    for number in range(PRODUCTS):
        price = {"amount": "2.55", "currency": "GBP"}
        body = {"sku": f"BENCH{number}", "name": "White hanging heart", "price": price}
        new = request("POST", "/v1/products", server.port, json.dumps(body).encode())
        made.append(json.loads(load(server.port, [new], 1)[0])["id"])
        stock = json.dumps({"quantity": 1_000_000}).encode()
        path = f"/v1/products/{made[-1]}/stock"
        load(server.port, [request("POST", path, server.port, stock)], 1)
    return made


def _peer_products(server: Server) -> list[str]:
    made = []
    for number in range(PRODUCTS):
        body = {
            "sku": f"BENCH{number}",
            "name": "White hanging heart",
            "price_minor": 255,
            "stock": 1_000_000,
        }
        new = request("POST", "/v1/products", server.port, json.dumps(body).encode())
        made.append(json.loads(load(server.port, [new], 1)[0])["id"])
    return made


def _store_settled(data: Path) -> Callable[[], None]:
    product = load_product(STORE, "prototype", overrides={"data": str(data / "store")})

    async def wait() -> None:
        async with connect_product(product, command="bench") as connection:
            if not await connection.desk.wait_idle(60):
                raise RuntimeError("the store did not settle in a minute")
            backlog = await connection.desk.backlog()
            if not backlog.settled or backlog.dead:
                raise RuntimeError(f"the store did not settle: {backlog}")

    return lambda: asyncio.run(wait())


def _peer_settled(server: Server) -> Callable[[], None]:
    ask = request("GET", "/unsettled", server.port)

    def wait() -> None:
        end = time.monotonic() + 120
        while json.loads(load(server.port, [ask], 1)[0])["left"]:
            if time.monotonic() > end:
                raise RuntimeError("the peer did not settle in two minutes")
            time.sleep(0.02)

    return wait
