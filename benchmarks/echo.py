"""What the benchmark of calls between processes exchanges, and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from tenfold import Contract, Struct, query
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext

__all__ = [
    "AT_ONCE",
    "METHOD",
    "OPERATIONS",
    "SPEC",
    "TRACE",
    "Ask",
    "Said",
    "decode",
    "encode",
    "serve_grpc",
    "serve_http",
]

AT_ONCE = 64
METHOD = "/bench.Echo/say"
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Said(Struct):
    """What both ends exchange."""

    text: str
    number: int


class Echo(Contract, Protocol):
    """Says what it is told."""

    @query(who="internal")
    async def say(self, text: str, number: int) -> Said:
        """The same again."""
        ...


OPERATIONS = {f"echo.{n}": spec for n, spec in read_contract(Echo).operations.items()}
SPEC = OPERATIONS["echo.say"]
Ask = Callable[[Said], Awaitable[Any]]
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Said).decode
_kept: list[Any] = []


async def serve_http(place: str, say: Callable[[Any], Awaitable[Any]]) -> None:
    """Answer with aiohttp at a port."""
    from aiohttp import web

    app = web.Application()
    app.router.add_post("/say", say)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(place)).start()


async def serve_grpc(place: str, say: Callable[[Said, Any], Awaitable[Said]]) -> None:
    """Answer with grpcio's asyncio at a port."""
    import grpc

    handler = grpc.method_handlers_generic_handler(
        "bench.Echo",
        {
            "say": grpc.unary_unary_rpc_method_handler(
                say, request_deserializer=decode, response_serializer=encode
            )
        },
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{place}")
    await server.start()
    _kept.append(server)  # it ends with its last reference
