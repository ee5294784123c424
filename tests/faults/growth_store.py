"""The store in the growth topology, under its real supervisor, on servers that tests strike."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tenfold.runtimes.restarts import NotSupervisedError, ProcessState, ask_states
from tests.faults.store_process import STORE, NoAnswerError, Wire, free_port

__all__ = ["ROOT", "GrowthStore", "growth_file"]

ROOT = Path(__file__).parents[2]
_PARENT = "tests.faults.growth_parent"
_FILE = """
name = "store"
seed = "store.seed:seed"

[modules]
catalog = "store.catalog.module:CatalogModule"
inventory = "store.inventory.module:InventoryModule"
orders = "store.orders.module:OrdersModule"
payments = "store.payments.module:PaymentsModule"
notifications = "store.notifications.module:NotificationsModule"
insights = "store.insights.module:InsightsModule"
registers = "tests.faults.registers.module:RegistersModule"

[topologies.growth.processes]
restart_max_s = 0.5

[topologies.growth.settings.notifications]
transport = "mailbox"

[topologies.growth.settings.payments]
provider = "test"

[topologies.growth.settings.payments.test]
ledger = "{data}/test-provider/ledger.db"
decline_share = 0.1
twice_share = 0.2
silent_share = 0.1
silent_s = 0.05
"""


def growth_file(folder: Path) -> Path:
    """The store with registers and with a payment provider at its worst; returns its file."""
    file = folder / "tenfold.toml"
    file.write_text(_FILE)
    return file


class GrowthStore:
    """One life of the fleet. The servers are whoever's the URLs name.

    Args:
        folder: holds the topology file, the data directory and the log.
        parent: the module that runs as `tenfold`.
        settings: environment variables on top of this process's.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str],
        *,
        web: int = 3,
        workers: int = 2,
        parent: str = _PARENT,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.file = growth_file(folder)
        self.data = folder / "data"
        self.port = free_port()
        self.log = folder / "log"
        self.environ = {
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(STORE), *filter(None, sys.path)]),
            "PORT": str(self.port),
            "TENFOLD_DATA": str(self.data),
            "TENFOLD_PRODUCT": str(self.file),
            "TENFOLD_TOPOLOGY": "growth",
            "TENFOLD_PROCESSES__WEB": str(web),
            "TENFOLD_PROCESSES__WORKERS": str(workers),
            **settings,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", parent, "run"],
                cwd=ROOT,
                env=self.environ,
                stdout=log,
                stderr=log,
            )

    def await_ready(self, within_s: float = 90.0) -> None:
        """Return once every process is ready."""
        until = time.monotonic() + within_s
        while "Ctrl-C drains and stops." not in self.log.read_text(errors="replace"):
            assert self.process.poll() is None, f"it ended:\n{self.tail()}"
            assert time.monotonic() < until, f"not ready in time:\n{self.tail()}"
            time.sleep(0.05)
        wire = Wire(self.port, timeout_s=10)
        try:
            assert wire.get("/_tenfold/ready").status == 200
        except NoAnswerError as error:
            raise AssertionError(self.tail()) from error
        finally:
            wire.close()

    def states(self) -> list[ProcessState]:
        """The processes, as the supervisor knows them."""
        try:
            return asyncio.run(ask_states(self.data))
        except NotSupervisedError as error:
            raise AssertionError(self.tail()) from error

    def pids(self, role: str) -> dict[str, int]:
        """The processes of one role that run at this moment: `web` or `worker`."""
        return {s.name: s.pid for s in self.states() if s.name.startswith(role) and s.pid}

    def stop(self, within_s: float = 60.0) -> int:
        """SIGTERM; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def said(self) -> str:
        """All that was logged."""
        return self.log.read_text(errors="replace")

    def tail(self, most: int = 4000) -> str:
        """The end of the log."""
        return self.said()[-most:]

    def __enter__(self) -> GrowthStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is not None:
            return
        try:
            pids = [state.pid for state in self.states() if state.pid]
        except AssertionError:
            pids = []
        self.process.kill()
        self.process.wait()
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
