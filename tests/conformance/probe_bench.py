"""The probe product as the suites of units of work and calls drive it, on any topology's stores."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from tenfold.ports.clock import RandomIds
from tenfold.runtimes.host import Host
from tenfold.runtimes.rest import wait_for_rest
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.clock import HeldClock
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule

__all__ = ["Probe"]


class Probe:
    """The probe product on a topology's stores, with a clock that is held."""

    def __init__(self, folder: Path, topology: Topology) -> None:
        self.clock = HeldClock()
        self._paused: set[str] = set()
        product = Product(
            name="probe",
            root=folder,
            modules={"ledger": LedgerModule, "audit": AuditModule},
            mounts={},
            seed=None,
            settings={},
            topology=topology,
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
            if self.host.product.topology.shared:
                await wait_for_rest(self.host.modules, self._paused)
            else:
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
