"""The full path over HTTP beside a bare ASGI application and FastAPI, per processor second."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Figure, Noise, interleave, process_cpu_s
from benchmarks.processes import Server, load, product_server, request, uvicorn_server

__all__ = ["measure"]

REQUESTS = 6000
CONNECTIONS = 16
_BODY = b'{"sku":"85123A","name":"White hanging heart","quantity":6,"tags":["gift","white"]}'


def measure(rounds: int, noise: Noise) -> list[Figure]:
    """A read and a validated body, each on three servers."""
    with ExitStack() as stack:
        data = stack.enter_context(tempfile.TemporaryDirectory())
        servers = {
            "Tenfold": stack.enter_context(
                product_server(Path(__file__).parent / "servers", Path(data))
            ),
            "bare ASGI": stack.enter_context(uvicorn_server("benchmarks.servers.bare:app")),
            "FastAPI": stack.enter_context(uvicorn_server("benchmarks.servers.fast:app")),
        }
        figures: list[Figure] = []
        for what, method, path, body in (
            ("GET", "GET", "/v1/things/0190163d-8694-739b-aea5-966c26f8ad90", None),
            ("POST", "POST", "/v1/things", _BODY),
        ):
            sides = {
                name: _side(server, request(method, path, server.port, body))
                for name, server in servers.items()
            }
            for side in sides.values():
                side()
            found = interleave(sides, rounds, noise)
            figures += _figures(what, found)
        return figures


def _side(server: Server, message: bytes) -> Callable[[], float]:
    def run() -> float:
        before = process_cpu_s(server.pid)
        load(server.port, [message] * REQUESTS, CONNECTIONS)
        return REQUESTS / (process_cpu_s(server.pid) - before)

    return run


def _figures(what: str, found: dict[str, list[float]]) -> list[Figure]:
    ours = found["Tenfold"]
    figures = [Figure(f"{what}, {name}", "req/CPU s", values) for name, values in found.items()]
    for name, goal in (("bare ASGI", "1.0"), ("FastAPI", "3.5")):
        ratios = [a / b for a, b in zip(ours, found[name], strict=True)]
        figures.append(Figure(f"{what}, Tenfold over {name}", "x", ratios, f"goal {goal}"))
    return figures
