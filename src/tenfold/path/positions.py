"""Positions: how far a caller has seen a module's log, so that it reads its own writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from tenfold.path.operations import CompiledOperation

__all__ = ["ProjectionProgress", "Positions"]

WAIT_S = 1.0
"""Seconds that a query waits for its projections, at the most, before it says that they lag."""


class ProjectionProgress(Protocol):
    """What is known of a projection's progress through a source's log."""

    async def reached(self, projection: str, source: str, position: int) -> bool:
        """Whether the active generation has worked every event of `source` up to `position`."""
        ...

    async def wait(self) -> None:
        """Until some entry of the queue was finished."""
        ...


class Positions:
    """Makes and reads position tokens: `module.epoch.position`, joined by `,` for several."""

    def __init__(
        self, epochs: Mapping[str, str], progress: Mapping[str, ProjectionProgress]
    ) -> None:
        self._epochs = epochs
        self._progress = progress

    def token(self, module: str, position: int) -> str | None:
        """The token for one module's log; None before its first event."""
        return f"{module}.{self._epochs[module]}.{position}" if position else None

    async def reached(self, operation: CompiledOperation, token: str) -> bool:
        """Wait until the projections that a query reads have reached a token, within a bound.

        A token that is malformed, of another epoch, or of a module that the
        projections do not follow asks for nothing.
        """
        progress = self._progress.get(operation.module.name)
        projections = operation.spec.declaration.projections
        wanted = self._read(token)
        if progress is None or not projections or not wanted:
            return True
        try:
            async with asyncio.timeout(WAIT_S):
                for projection in projections:
                    for source, position in wanted.items():
                        while not await progress.reached(projection, source, position):
                            await progress.wait()
        except TimeoutError:
            return False
        return True

    def _read(self, token: str) -> dict[str, int]:
        wanted: dict[str, int] = {}
        for part in token[:1000].split(","):
            pieces = part.strip().split(".")
            if len(pieces) != 3:
                continue
            module, epoch, position = pieces
            # "²" is a digit too, and no number.
            number = position.isascii() and position.isdigit() and len(position) < 19
            if number and self._epochs.get(module) == epoch:
                wanted[module] = int(position)
        return wanted
