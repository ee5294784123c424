"""The moved product's side: it watches its own writers."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, final

from tenfold.adapters.sqlite.capture import Capture, Changes
from tenfold.contracts.contract import OperationSpec, read_contract
from tenfold.contracts.errors import StoreUnavailableError, TenfoldError
from tenfold.runtimes.moving.contract import Changed, Moving, NotWatched
from tenfold.runtimes.sqlite_stores import SqliteStores

__all__ = ["MOVING_OPERATIONS", "MovingService"]

_PATIENCE_S: Final = 60.0
_log = logging.getLogger("tenfold.move")
MOVING_OPERATIONS: dict[str, OperationSpec] = {
    f"tenfold.{name}": spec for name, spec in read_contract(Moving).operations.items()
}
"""The operations by the name that they are called by."""


@final
class MovingService(Moving):
    """Answers a mover in the process that holds the files."""

    def __init__(self, stores: SqliteStores) -> None:
        self._stores = stores
        self._captures: dict[str, Capture] = {}
        self._left: dict[str, list[tuple[object, ...]]] = {}
        self._turn = asyncio.Lock()
        self._patience: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    async def watch(self, tables: dict[str, dict[str, list[str]]]) -> None:
        """See `Moving.watch`."""
        async with self._turn:
            await self._end()
            for module, keys in tables.items():
                capture = Capture(self._stores.store(module), keys)
                self._captures[module] = capture
                await capture.begin()
            self._be_patient()

    async def take(self, module: str, most: int, held: bool) -> Changed:
        """See `Moving.take`."""
        async with self._turn:
            capture = self._captures.get(module)
            if capture is None or capture.overflowed:
                raise NotWatched
            self._be_patient()
            left = self._left.setdefault(module, [])
            if not left:
                taken: Changes = await capture.take(held=held)
                left.extend(taken)
            part, self._left[module] = left[:most], left[most:]
            return Changed(keys=part, more=bool(self._left[module]))

    async def refuse_writes(self, refuse: bool) -> None:
        """See `Moving.refuse_writes`."""
        for module in self._captures:
            refusal = StoreUnavailableError(
                f"The data of module {module!r} has moved, and is written no more here. Nothing "
                "was done. Send it to the product's new place, with its Idempotency-Key."
            )
            self._stores.store(module).refuse_writes(refusal if refuse else None)

    async def forget(self) -> None:
        """See `Moving.forget`."""
        async with self._turn:
            await self._end()

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(_PATIENCE_S, self._give_up)

    def _give_up(self) -> None:
        _log.warning("Nobody asked for changes for %g s: they are noted no more.", _PATIENCE_S)
        self._ending = asyncio.ensure_future(self.forget())

    async def _end(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        captures, self._captures = self._captures, {}
        self._left.clear()
        for module, capture in captures.items():
            try:
                await capture.end()
            except TenfoldError as error:
                _log.warning("The triggers of %s stay until the process ends: %s", module, error)
