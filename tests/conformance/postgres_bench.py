"""The probe product on PostgreSQL, with a held clock, for the suites of the model's rules."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tenfold.runtimes.settings import DatabaseSettings
from tenfold.runtimes.topology import Topology
from tests.conformance.probe_bench import Probe

__all__ = ["PostgresProbe"]


class PostgresProbe(Probe):
    """One process of the probe, with its background work, on an empty database."""

    def __init__(self, url: str, folder: Path) -> None:
        database = DatabaseSettings(kind="postgres", url=url)
        super().__init__(folder, Topology(name="growth", database=database))

    async def start(self) -> None:
        """Until this process leads: only then are the relays and schedules at work."""
        await super().start()
        while await self.host.modules["ledger"].queue.next_due() is None:  # its schedule's
            await asyncio.sleep(0.005)
