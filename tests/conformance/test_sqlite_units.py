"""Units of work on SQLite pass the suite of the model's rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tenfold.ports.clock import RandomIds
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing import call_suite, unit_suite
from tenfold.testing.clock import HeldClock
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule


class SqliteProbe:
    """The probe product on SQLite files in a folder, with a clock that is held."""

    def __init__(self, folder: Path) -> None:
        self.clock = HeldClock()
        self._paused: set[str] = set()
        product = Product(
            name="probe",
            root=folder,
            modules={"ledger": LedgerModule, "audit": AuditModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(),
        )
        self.host = Host(
            product, data_dir=folder, clock=self.clock, ids=RandomIds(7), create_tables=True
        )

    async def start(self) -> None:
        await self.host.start()
        self.ledger = self.host.proxy(Ledger)
        self.audit = self.host.proxy(Audit)

    async def pause(self, module: str) -> None:
        await self.host.worker(module).drain(5.0)
        self._paused.add(module)

    async def settle(self) -> None:
        while True:
            await self.host.idle()
            now = self.clock.now()
            soon = now + timedelta(hours=2)
            dues = [
                await runtime.queue.next_due()
                for name, runtime in self.host.modules.items()
                if name not in self._paused
            ]
            due = min((d for d in dues if d is not None and d <= soon), default=None)
            if due is None:
                return
            self.clock.jump(max((due - now).total_seconds(), 0.0))
            for name in self.host.modules:
                self.host.worker(name).wake()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[SqliteProbe]:
    made = SqliteProbe(tmp_path)
    await made.start()
    yield made
    await made.host.stop()


class TestAtomic(unit_suite.AtomicCases): ...


class TestOwnership(unit_suite.OwnershipCases): ...


class TestGather(unit_suite.GatherCases): ...


class TestCalls(call_suite.CallCases): ...


class TestIsolation(unit_suite.IsolationCases): ...


class TestKeyed(unit_suite.KeyedCases): ...


class TestPositions(unit_suite.PositionCases): ...


class TestTenants(unit_suite.TenantCases): ...


class TestBackground(call_suite.BackgroundCases): ...
