"""The probe product on PostgreSQL, with a held clock, for the suites of the model's rules."""

from __future__ import annotations

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
