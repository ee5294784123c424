"""What runs a module's background work: made here, so that a topology may have it otherwise."""

from __future__ import annotations

from typing import Any, Protocol

from tenfold.path.background import HandlerSpec
from tenfold.path.batches import Batches
from tenfold.path.delivery import Delivery
from tenfold.path.module import ModuleRuntime
from tenfold.path.witness import Witness, WitnessedDelivery
from tenfold.ports.outbox import Log

__all__ = ["Makers", "PlainMakers"]


class Makers(Protocol):
    """Makes what runs entries of queues and batches of events."""

    def delivery(self, module: ModuleRuntime, owners: dict[str, Any]) -> Delivery:
        """What runs the claimed entries of one module's queue. See `Delivery`."""
        ...

    def batches(
        self, module: ModuleRuntime, spec: HandlerSpec, source: str, outbox: Log
    ) -> Batches:
        """What handles the events of one subscription in batches. See `Batches`."""
        ...


class PlainMakers:
    """Implements `Makers`: everything is run once, before a witness if there is one."""

    def __init__(self, witness: Witness | None) -> None:
        self._witness = witness

    def delivery(self, module: ModuleRuntime, owners: dict[str, Any]) -> Delivery:
        """See `Makers.delivery`."""
        if self._witness is None:
            return Delivery(module, owners)
        return WitnessedDelivery(module, owners, self._witness)

    def batches(
        self, module: ModuleRuntime, spec: HandlerSpec, source: str, outbox: Log
    ) -> Batches:
        """See `Makers.batches`."""
        return Batches(module, spec, source, outbox)
