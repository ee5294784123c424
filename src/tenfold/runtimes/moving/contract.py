"""What a mover asks of the process that runs the product it moves."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

import msgspec

from tenfold.contracts.contract import Contract
from tenfold.contracts.operations import command
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Struct

__all__ = ["Changed", "Moving", "NotWatched"]

Most = Annotated[int, msgspec.Meta(ge=1, le=50_000)]


class Changed(Struct):
    """Keys of rows that were written: the name of the table, then the key, as the file has it.

    `more` says that there are others.
    """

    keys: list[tuple[Any, ...]]
    more: bool


class NotWatched(Refusal, status=409):
    """Nobody watches: it was never begun, was given up since, or there were too many changes."""


class Moving(Contract, Protocol):
    """How changes of a running product are seen by whoever copies its data."""

    @command(who="internal", timeout_s=30)
    async def watch(self, tables: dict[str, dict[str, list[str]]]) -> None:
        """Note from now on which rows are written: of each module's tables, by these columns.

        It ends by itself where nobody takes for a minute.
        """
        ...

    @command(who="internal", raises=[NotWatched], timeout_s=30)
    async def take(self, module: str, most: Most, held: bool) -> Changed:
        """Keys that were written since the last time; `held` where the write lock is the caller's.

        Nothing is told twice, so what is lost on its way calls for a comparison.
        """
        ...

    @command(who="internal", timeout_s=30)
    async def refuse_writes(self, refuse: bool) -> None:
        """Write nothing more until this process ends; with False go on.

        The caller holds the write locks, so nothing is committed from now on.
        """
        ...

    @command(who="internal", timeout_s=30)
    async def forget(self) -> None:
        """Watch no more."""
        ...
