"""A slot: one process that there is to be, kept running, and replaced without a gap."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import Random

import msgspec

from tenfold.contracts.errors import TenfoldError
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.processes import PlannedProcess, decide_failures, decide_restart
from tenfold.runtimes.restarts import ProcessState
from tenfold.runtimes.settings import ProcessSettings
from tenfold.runtimes.spawning import Child

__all__ = ["Slot"]

_log = logging.getLogger("tenfold.supervisor")


class Slot:
    """Keeps one process running from `begin` to `end`.

    A process that ends by itself is started again, later after each failure in a
    row. Its name stays, and so does the place in the plan; the process does not.
    """

    def __init__(
        self,
        planned: PlannedProcess,
        settings: ProcessSettings,
        spawn: Callable[[PlannedProcess], Child],
        random: Random,
    ) -> None:
        self.planned = planned
        self.settings = settings
        self.restarts = 0
        self._spawn = spawn
        self._random = random
        self._child: Child | None = None
        self._turn = asyncio.Lock()
        self._failures = 0
        self._keeping: asyncio.Task[None] | None = None

    @property
    def state(self) -> ProcessState:
        """How it does at this moment."""
        child = self._child
        alive = child is not None and child.alive
        return ProcessState(
            name=self.planned.name,
            role=self.planned.role,
            state="ready" if alive else "down",
            pid=child.pid if child is not None and alive else 0,
            restarts=self.restarts,
        )

    async def measure(self, within_s: float) -> str | None:
        """What the process has measured. See `Child.measure`; None where there is none."""
        child = self._child
        return await child.measure(within_s) if child is not None and child.alive else None

    async def divert(self, share: float, within_s: float) -> SplitCounts | None:
        """Let a share of calls go to a service. See `Child.divert`; so do its successors."""
        splitting = self.planned.splitting
        if splitting is None:
            return None
        self.planned = msgspec.structs.replace(
            self.planned, splitting=msgspec.structs.replace(splitting, share=share)
        )
        child = self._child
        if child is None or not child.alive:
            return None
        return await child.divert(share, within_s)

    async def begin(self) -> None:
        """Start the process and wait until it is ready; keep it running from then on.

        Raises: ProcessNotStartedError, UserMistakeError.
        """
        async with self._turn:
            self._child = await self._launch(self.planned)
        self._keeping = asyncio.create_task(self._keep())

    async def replace(self, planned: PlannedProcess, order: DrainOrder) -> None:
        """Start another process, let it take over when it is ready, and drain the old one.

        Raises: ProcessNotStartedError, UserMistakeError; the old one goes on then.
        """
        async with self._turn:
            new = await self._launch(planned)
            old, self._child = self._child, new
            self.planned = planned
            self._failures = 0
        if old is not None and old.alive:
            await old.stop(order)

    def forget(self) -> None:
        """Start it no more."""
        if self._keeping is not None:
            self._keeping.cancel()

    async def end(self, order: DrainOrder) -> None:
        """Keep it no longer, and drain it."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        async with self._turn:
            if self._child is not None and self._child.alive:
                await self._child.stop(order)

    async def _launch(self, planned: PlannedProcess) -> Child:
        child = self._spawn(planned)
        await child.begun()
        return child

    async def _keep(self) -> None:
        while True:
            child = self._child
            if child is not None:
                await child.ended.wait()
            async with self._turn:
                if child is not self._child:
                    continue  # it was replaced, and ended as it should
                wait_s = self._decide(child)
            await asyncio.sleep(wait_s)
            async with self._turn:
                if child is not self._child:
                    continue
                self._child = None
                try:
                    self._child = await self._launch(self.planned)
                    self.restarts += 1
                except (TenfoldError, OSError) as error:  # the system may lack memory, or processes
                    _log.error("%s was not started again: %s", self.planned.name, error)

    def _decide(self, child: Child | None) -> float:
        """How long to wait before the next start, now that there is no process."""
        served_s = None if child is None else child.served_s
        self._failures = decide_failures(self._failures, served_s=served_s, settings=self.settings)
        wait_s = decide_restart(
            self._failures, chance=self._random.random(), settings=self.settings
        )
        if child is not None:
            _log.error(
                "%s (process %d) %s. It is started again in %.1f s.",
                self.planned.name,
                child.pid,
                child.how(),
                wait_s,
            )
        return wait_s
