"""The options that commands share, and how a command reaches its product."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.connect import open_desk
from tenfold.runtimes.desk import Desk
from tenfold.runtimes.topology import ProductFile, read_product_file

__all__ = ["Data", "Json", "ProductFolder", "TopologyName", "at_desk", "read_refs", "source"]

_T = TypeVar("_T")
_DIGITS = len(str(2**63))
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="TENFOLD_DATA, else .tenfold beside tenfold.toml."),
]
TopologyName = Annotated[
    str | None,
    typer.Option("--topology", metavar="NAME", help="TENFOLD_TOPOLOGY, else prototype."),
]
ProductFolder = Annotated[
    Path | None,
    typer.Option(
        "--product",
        metavar="DIR",
        help="The folder of tenfold.toml: TENFOLD_PRODUCT, else here or above.",
    ),
]


def source(product: Path | None, topology: str | None, data: str | None) -> ProductFile:
    """The topology file that a command's options mean."""
    overrides = {} if data is None else {"data": data}
    return read_product_file(product, topology, overrides=overrides)


def at_desk(
    found: ProductFile,
    command: str,
    work: Callable[[Desk], Awaitable[_T]],
    *,
    background: bool = False,
) -> _T:
    """Do something at a product's desk, through the process that runs it or by opening it here.

    Args:
        background: whether a product that is opened here runs its background work meanwhile.
    """

    async def go() -> _T:
        async with open_desk(found, command=f"tenfold {command}", background=background) as desk:
            return await work(desk)

    try:
        return asyncio.run(go())
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        raise typer.Exit(130) from None


def read_refs(refs: list[str]) -> dict[str, list[int]]:
    """`orders:17 orders:18 payments:3` by module. Raises UserMistakeError for anything else."""
    found: dict[str, list[int]] = {}
    for ref in refs:
        module, colon, number = ref.partition(":")
        # Not isdigit alone: it takes other scripts' digits, and a store's numbers end at 2^63.
        fits = number.isascii() and number.isdigit() and len(number) < _DIGITS
        if not (module and colon and fits):
            raise UserMistakeError(
                f"{ref!r} names no entry. Write it as `module:number`, as `tenfold queue list` "
                "prints it."
            )
        found.setdefault(module, []).append(int(number))
    return found
