"""Opening a module's store, whatever it is kept in: what the runtimes ask of each topology."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from sqlalchemy import Table

from tenfold.contracts.errors import ContractError
from tenfold.contracts.structs import Struct
from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.module import Resources
from tenfold.path.stops import Stops
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.database import Database
from tenfold.ports.news import CommitNews
from tenfold.ports.replicas import Replicas
from tenfold.ports.transfer import Transfer
from tenfold.runtimes.reflection import ModuleShape
from tenfold.runtimes.topology import Topology
from tenfold.tables.check import check_tables

__all__ = [
    "ModuleTables",
    "OpenedModule",
    "Stores",
    "Surroundings",
    "make_stores",
    "no_migrations",
    "refuse_missing",
]


class Surroundings:
    """What the modules of one process share."""

    def __init__(self, data_dir: Path, clock: Clock, ids: Ids, *, create_tables: bool) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self.ids = ids
        self.create_tables = create_tables
        self.stops = Stops()


class OpenedModule(Protocol):
    """A module's store, open: its database for handlers, and the ports of the path."""

    resources: Resources
    outdated: list[str]
    """Projections whose declared tables no longer fit the stored ones: to be rebuilt."""

    @property
    def database(self) -> Database:
        """What the module's handlers get."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether it writes, as far as is known."""
        ...

    async def start(self) -> None:
        """Begin to write, and learn which generation of each projection answers."""
        ...

    async def refresh_generations(self) -> None:
        """Let queries read the generations that are active now."""
        ...

    async def tidy(self) -> list[str]:
        """Drop what a life before left over of projections; for the process that leads.

        Returns: projections that need a rebuild.
        """
        ...

    def answer_from(self, projection: str, generation: int) -> None:
        """Let queries read another generation of a projection from now on."""
        ...


class Stores(Protocol):
    """The stores of all modules of a product, in one process.

    `shared` says that other processes may work on the same data at the same time.
    """

    shared: bool

    async def start(self) -> None:
        """Reach what the modules are kept in. Raises: StoreUnavailableError (NOT_DONE)."""
        ...

    async def open(
        self, shape: ModuleShape, on_commit: Callable[[CommitNews], None]
    ) -> OpenedModule:
        """Open one module, migrated; nothing is written until its `start`.

        Args:
            on_commit: told after every commit of this process, on the event loop.
        Raises: ContractError, MigrationError, StoreUnavailableError (NOT_DONE).
        """
        ...

    @property
    def replicas(self) -> Replicas | None:
        """The servers that hold the data, where queries may go to several of them."""
        ...

    def transfers(self, target: str, sources: Iterable[str]) -> dict[str, Transfer]:
        """How events come into a module's queue where the database itself can carry them.

        Args:
            sources: the modules that it follows.
        """
        ...

    def tell(self, topic: str) -> None:
        """Let other processes know of something: the name of a module that has committed."""
        ...

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call `hear` from now on with what other processes tell."""
        ...

    async def lead(
        self,
        begin: Callable[[], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
        service: str = "",
    ) -> None:
        """Lead the product's background work for as long as no other process does.

        Args:
            begin: awaited whenever this process begins to lead.
            end: awaited when it has ceased to; another may lead already by then.
            service: lead the background work of this one alone.
        """
        ...

    async def stop_leading(self) -> None:
        """Give the lead up for good; neither `begin` nor `end` is awaited afterwards."""
        ...

    async def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do `work` unless it has ended before on this data; durable when this returns.

        Of several processes at once one does it and the others wait. Work that
        was interrupted is done again.
        """
        ...

    def metrics(self) -> list[Gauge | Counter]:
        """What this process has seen of its connections and of replicas."""
        ...

    async def horizon_age_s(self) -> float | None:
        """For how many seconds an open transaction has kept the logs from being read on.

        None where none can. Raises: StoreUnavailableError.
        """
        ...

    async def close(self, wait_s: float) -> None:
        """Commit what was handed in and close everything, within a bound."""
        ...


class ModuleTables(Struct):
    """The tables of one module: its `own`, and those of its projections."""

    own: list[Table]
    projected: dict[str, list[Table]]

    @staticmethod
    def of(shape: ModuleShape) -> ModuleTables:
        """Read and check them. Raises: TableDeclarationError."""
        projected = {each.name: list(each.tables) for each in shape.projections.values()}
        owned = {table.name for tables in projected.values() for table in tables}
        declared = [] if shape.metadata is None else shape.metadata.sorted_tables
        made = ModuleTables(
            own=[table for table in declared if table.name not in owned], projected=projected
        )
        check_tables(shape.name, list(made.by_name.values()), scoped=shape.scoped)
        return made

    @property
    def owners(self) -> dict[str, str]:
        """The projection that each projected table belongs to."""
        return {table.name: name for name, tables in self.projected.items() for table in tables}

    @property
    def by_name(self) -> Mapping[str, Table]:
        """All of them."""
        projected = [table for tables in self.projected.values() for table in tables]
        return {table.name: table for table in (*self.own, *projected)}


def make_stores(topology: Topology, around: Surroundings) -> Stores:
    """What a topology keeps its modules in; nothing is reached or loaded before it is asked for."""
    if topology.shared:
        from tenfold.runtimes.postgres_stores import PostgresStores

        return PostgresStores(topology.database, around)
    from tenfold.runtimes.sqlite_stores import SqliteStores

    return SqliteStores(around)


def no_migrations(module: str, own: list[Table]) -> ContractError:
    """The error for a module with tables and nothing that makes them."""
    return ContractError(
        f"Module {module!r} has tables {[table.name for table in own]} and no folder "
        "`migrations` beside its module.py. Add one with a revision that makes them."
    )


def refuse_missing(module: str, table: Table, there: set[str]) -> None:
    """Refuse a declared table or column that the database does not have.

    Args:
        there: the columns that the table has; none where there is no such table.
    Raises: ContractError.
    """
    missing = [column.name for column in table.columns if column.name not in there]
    if missing:
        what = ", ".join(f"{table.name}.{name}" for name in missing) if there else table.name
        raise ContractError(
            f"Module {module!r} declares {what}, and no migration makes it. Nothing was "
            "started. Add a revision to its folder `migrations` that does."
        )
