"""A product of background work and nothing else: jobs that do nothing, and jobs with one effect."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol, final

from sqlalchemy import BigInteger, Column, Table, bindparam

from tenfold import Contract, Database, command, job
from tenfold.runtimes.host import Host
from tenfold.runtimes.settings import DatabaseSettings, QueueLimits
from tenfold.runtimes.topology import Product, Topology
from tenfold.tables.columns import metadata, tenant

__all__ = ["WORKED", "Work", "WorkModule", "make_host"]

TABLES = metadata()
EFFECTS = Table(
    "effects", TABLES, tenant(), Column("number", BigInteger, primary_key=True, autoincrement=False)
)
ADD = EFFECTS.insert().values(number=bindparam("number"))
WORKED: Any = SimpleNamespace(watch=None)
"""Who counts the jobs that this process handles."""


class Work(Contract, Protocol):
    """Takes orders for jobs."""

    @command(who="internal")
    async def fill(self, kind: str, first: int, count: int, keys: int) -> int:
        """Enqueue jobs in one unit of work, each with one of so many keys (0: its own)."""
        ...


@final
class WorkModule(Work):
    """Does what it is told, which is next to nothing."""

    db: Database
    metadata = TABLES

    async def fill(self, kind: str, first: int, count: int, keys: int) -> int:
        """Enqueue jobs in one unit of work."""
        bound = self.affect if kind == "effect" else self.rest
        for number in range(first, first + count):
            key = str(number % keys if keys else number)
            bound.with_(order_key=key).enqueue(number)
        return count

    @job(attempts=8, timeout_s=30)
    async def rest(self, number: int) -> None:
        """Do nothing."""
        WORKED.watch.note()

    @job(attempts=8, timeout_s=30)
    async def affect(self, number: int) -> None:
        """Have one effect."""
        WORKED.watch.note()
        self.db.buffer(ADD, number=number)


def make_host(url: str, folder: Path) -> Host:
    """The product on a database, as one process of many would run it."""
    topology = Topology(
        name="growth",
        database=DatabaseSettings(kind="postgres", url=url, pool=20, local_replicas=0),
        queue=QueueLimits(batch=500, concurrency=64),
    )
    product = Product(
        name="work",
        root=folder,
        modules={"work": WorkModule},
        mounts={},
        seed=None,
        settings={},
        topology=topology,
    )
    return Host(product, data_dir=folder, create_tables=True)
