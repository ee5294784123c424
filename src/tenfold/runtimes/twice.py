"""The topology `twice`: calls between the modules of one process go over a socket, and come again.

    edge, modules ─> RepeatingPeer ─> RemoteService ─socket─> FrameServer ─> RepeatedEntry ─> path
                     three deliveries   codec and transport, as between services

For tests. Nothing else imports this file, so that other topologies pay nothing for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import UserMistakeError
from tenfold.edges.frames import FrameServer
from tenfold.path.background import HandlerSpec
from tenfold.path.batches import Batches
from tenfold.path.delivery import Delivery
from tenfold.path.entry import Entry
from tenfold.path.module import ModuleRuntime, Resources
from tenfold.path.repeated import (
    RepeatedBatches,
    RepeatedDelivery,
    RepeatedEntry,
    RepeatingPeer,
    repeat_units,
)
from tenfold.path.repeats import Findings, Run
from tenfold.ports.clock import Ids
from tenfold.ports.outbox import Log
from tenfold.ports.peers import Peer

__all__ = ["Twice"]

_LINKS = 2


class Twice:
    """What stands between the modules of one process, and what it has found."""

    def __init__(self, product: str, ids: Ids, *, witnessed: bool = False) -> None:
        """Nothing is opened before `open`.

        Raises: UserMistakeError where somebody wants to see the one delivery of each message.
        """
        if witnessed:
            raise UserMistakeError(
                "A witness tells of one delivery of each message, and the topology 'twice' makes "
                "three. Nothing was started. Choose another topology."
            )
        self._product = product
        self._ids = ids
        self._runs: dict[str, Run] = {}
        self._folder: TemporaryDirectory[str] | None = None
        self._server: FrameServer | None = None
        self._remote: RemoteService | None = None
        self.findings = Findings()

    def watch(self, resources: Resources) -> None:
        """Let the units of work of one module be thrown away where a delivery says so."""
        repeat_units(resources)

    def delivery(self, module: ModuleRuntime, owners: dict[str, Any]) -> Delivery:
        """What runs the claimed entries of one module's queue."""
        return RepeatedDelivery(module, owners, self.findings)

    def batches(
        self, module: ModuleRuntime, spec: HandlerSpec, source: str, outbox: Log
    ) -> Batches:
        """What handles the events of one subscription in batches."""
        return RepeatedBatches(module, spec, source, outbox)

    async def open(self, entry: Entry, operations: Mapping[str, OperationSpec]) -> Peer:
        """Listen for calls to `entry`; returns the peer through which each comes more than once."""
        self._folder = TemporaryDirectory(prefix="tenfold-")  # only its owner may open it
        path = Path(self._folder.name) / "twice.sock"
        self._server = FrameServer(
            self._product, RepeatedEntry(entry, self._runs), operations, process="twice"
        )
        await self._server.start(path)
        places = Fixed({str(path): partial(connect, path)}, links=_LINKS)
        self._remote = RemoteService("twice", places)
        return RepeatingPeer(self._remote, self._runs, self.findings, self._ids)

    async def close(self, drain_s: float) -> None:
        """End the connections, and listen no more."""
        if self._remote is not None:
            await self._remote.close()
        if self._server is not None:
            await self._server.stop(drain_s=drain_s)
        if self._folder is not None:
            self._folder.cleanup()
        self._remote = self._server = self._folder = None
