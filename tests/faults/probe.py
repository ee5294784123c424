"""The probe product in this process, whose writer can be held up and whose disk can be full."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from tenfold.adapters.sqlite.store import SqliteStore
from tenfold.adapters.sqlite.writer import Task
from tenfold.contracts.envelope import OPERATOR
from tenfold.path.entry import Incoming, Reply
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule

__all__ = ["Probe", "WriterHold"]


class Probe:
    """The probe product on files in a folder, on the real clock."""

    def __init__(self, folder: Path) -> None:
        product = Product(
            name="probe",
            root=folder,
            modules={"ledger": LedgerModule, "audit": AuditModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        )
        self.host = Host(product, data_dir=folder, create_tables=True)
        self.file = folder / "ledger.db"

    @property
    def store(self) -> SqliteStore:
        """The ledger's store."""
        return self.host._opened["ledger"].store

    async def __aenter__(self) -> Probe:
        await self.host.start()
        self.ledger = self.host.proxy(Ledger)
        self.audit = self.host.proxy(Audit)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.host.stop(drain_s=2.0)

    async def call(
        self, name: str, *args: Any, key: str | None = None, timeout_s: float | None = None
    ) -> Reply:
        """One call from an edge."""
        spec = self.host.operations[f"ledger.{name}"]
        bind = self.host._running._operations[f"ledger.{name}"].bind
        return await self.host.entry.call(
            Incoming(
                operation=spec,
                arguments=bind(args, {}),
                principal=OPERATOR,
                internal=True,
                idempotency_key=key,
                timeout_s=timeout_s,
            )
        )

    async def most_pages(self, most: int | None) -> None:
        """Let the ledger's file grow no further (0), or as it likes (None).

        `max_page_count` makes SQLite itself answer SQLITE_FULL, as a full disk does.
        """

        def limit(connection: sqlite3.Connection) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            wanted = 2**30 if most is None else pages + most
            connection.execute(f"PRAGMA max_page_count={wanted}")

        await self.store.write(limit)

    def hold(self) -> WriterHold:
        """Hold the writer up, so that what is submitted meanwhile becomes one group."""
        return WriterHold(self.store)

    def committed(self, query: str) -> list[tuple[Any, ...]]:
        """What the ledger's file holds, read past the product."""
        connection = sqlite3.connect(self.file)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


class WriterHold:
    """While the block runs the writer's thread is inside a task that waits."""

    def __init__(self, store: SqliteStore) -> None:
        self._writer = store._writer
        self._entered = threading.Event()
        self._go = threading.Event()

    def __enter__(self) -> WriterHold:
        self._writer.submit(Task(self._wait))
        assert self._entered.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, where: TracebackType | None
    ) -> None:
        self._go.set()

    def _wait(self, _: sqlite3.Connection) -> None:
        self._entered.set()
        assert self._go.wait(30)
