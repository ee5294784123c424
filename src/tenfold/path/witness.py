"""A witness of the path: told what passes its stops, and compiled in only where one is given.

A product without a witness runs none of this: the host builds the plain parts.
With one, handlers, units of work and queues are wrapped where they are wired.
The stops that bytes pass (edge, admit) are seen by whoever drives the edge.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Protocol, TypeVar, cast

from tenfold.contracts.contract import OperationSpec
from tenfold.path.delivery import Delivery
from tenfold.path.module import ModuleRuntime, Resources
from tenfold.path.operations import CompiledOperation
from tenfold.ports.records import Claim, Cycle, Turn
from tenfold.ports.records import Delivery as Deliveries
from tenfold.ports.unit import CURRENT, Message, Unit, UnitResult, Units, current_message

__all__ = ["Witness", "WitnessedDelivery", "witness_resources", "witnessed_operations"]

_Q = TypeVar("_Q")


class Witness(Protocol):
    """Is told what passes the stops, on the event loop; is quick, and never raises."""

    def handling(self, message: Message) -> None:
        """A handler begins: for the first time, or again after its unit of work was lost."""
        ...

    def committed(self, message: Message, unit: Unit, result: UnitResult) -> None:
        """A unit of work has committed what is in it; nothing, where it was a duplicate."""
        ...

    def relayed(self, module: str, deliveries: Deliveries) -> None:
        """Events have been put into a module's queue."""
        ...

    def claimed(self, module: str, claim: Claim) -> None:
        """A module's worker has taken entries of its queue."""
        ...


def witness_resources(module: str, resources: Resources, witness: Witness) -> None:
    """Let a witness see the units of work and the queue of one module."""
    resources.units = _WitnessedUnits(resources.units, witness)
    resources.queue = _witnessed_queue(module, resources.queue, witness)


def witnessed_operations(module: ModuleRuntime, witness: Witness) -> dict[str, CompiledOperation]:
    """Compile every operation of a module, by name, so that a witness sees them handled."""
    return {
        name: _WitnessedOperation(module, spec, witness)
        for name, spec in module.contract.operations.items()
    }


class _WitnessedOperation(CompiledOperation):
    __slots__ = ()

    def __init__(self, module: ModuleRuntime, spec: OperationSpec, witness: Witness) -> None:
        super().__init__(module, spec)
        self._method = _seen(self._method, witness)


class WitnessedDelivery(Delivery):
    """Runs the claimed entries of one module's queue before a witness."""

    def __init__(self, module: ModuleRuntime, owners: dict[str, Any], witness: Witness) -> None:
        super().__init__(module, owners)
        for compiled in self._handlers.values():
            compiled.call = _seen(compiled.call, witness)


def _seen(
    method: Callable[..., Awaitable[Any]], witness: Witness
) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def call(*args: Any) -> Any:
        witness.handling(current_message())
        return await method(*args)

    return call


class _WitnessedUnits:
    """Units of work, each told of after its commit. Implements `Units`."""

    def __init__(self, units: Units, witness: Witness) -> None:
        self._units = units
        self._witness = witness

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        """Carry one unit of work. See `Units.run`."""
        result = await self._units.run(unit, handler, context, value)
        self._witness.committed(context[CURRENT], unit, result)
        return result


class _WitnessedQueue:
    """The queue of one module; what is not told of goes straight through."""

    def __init__(self, module: str, queue: Any, witness: Witness) -> None:
        self._module = module
        self._queue = queue
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def deliver(self, delivery: Deliveries) -> int:
        """Add what a relay brings. See `Queue.deliver`."""
        added: int = await self._queue.deliver(delivery)
        if delivery.entries:
            self._witness.relayed(self._module, delivery)
        return added

    async def cycle(self, cycle: Cycle) -> Turn:
        """Take a worker's turn. See `Queue.cycle`."""
        turn: Turn = await self._queue.cycle(cycle)
        if turn.claim is not None:
            self._witness.claimed(self._module, turn.claim)
        return turn


def _witnessed_queue(module: str, queue: _Q, witness: Witness) -> _Q:
    return cast("_Q", _WitnessedQueue(module, queue, witness))
