"""What the benchmark of calls between processes exchanges, and how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec

from tenfold import Contract, Struct, query
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext

__all__ = ["AT_ONCE", "METHOD", "OPERATIONS", "SPEC", "TRACE", "Ask", "Said", "decode", "encode"]

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
