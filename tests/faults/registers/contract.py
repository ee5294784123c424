"""Registers that only go up: whoever sees one go down, or a number twice, has found a fault."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from tenfold import Contract, Event, Struct, command, query

__all__ = ["RegisterName", "Reading", "Registers", "Stepped"]

RegisterName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,40}$(?!\n)")]


class Reading(Struct):
    """What a register holds, and the port of the database server that said so."""

    value: int
    server: int = 0


class Stepped(Event, key="name"):
    """A register has come to a number."""

    name: str
    number: int


class Registers(Contract, Protocol):
    """Numbers by name, each one more than before."""

    @command("POST /v1/registers/{name}", who="anyone")
    async def step(self, name: RegisterName) -> Reading:
        """Raise a register by one; says what it holds now."""
        ...

    @query("GET /v1/registers/{name}", who="anyone")
    async def read(self, name: RegisterName) -> Reading:
        """What a register holds; 0 where it was never written."""
        ...

    @query("GET /v1/registers", who="anyone")
    async def read_all(self) -> dict[str, Reading]:
        """What every register holds."""
        ...
