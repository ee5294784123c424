"""The port of projections: one set of tables for each generation."""

from __future__ import annotations

from typing import Protocol

from tenfold.contracts.structs import Struct

__all__ = ["GenerationState", "Generations"]


class GenerationState(Struct):
    """Which generation of a projection answers queries, and which is being built beside it."""

    active: int
    building: int | None = None


class Generations(Protocol):
    """The generations of one module's projections."""

    async def state(self) -> dict[str, GenerationState]:
        """Every projection by name."""
        ...

    async def begin(self, name: str) -> int:
        """Make empty tables for a further generation and return its number.

        A generation that is being built already is dropped and begun anew.
        """
        ...

    async def swap(self, name: str, generation: int) -> None:
        """Let a generation answer from now on, in one transaction.

        The one before is kept, for those who still read it, until it is dropped.
        """
        ...

    async def drop(self, name: str, generation: int) -> None:
        """Drop a generation that does not answer, with its positions and queue entries."""
        ...
