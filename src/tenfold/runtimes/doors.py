"""The door of one process, opened from its topology's settings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

import msgspec

from tenfold.adapters.memory.limits import MemoryCounter
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.operations import Kind
from tenfold.path.backlogs import Backlogs
from tenfold.path.door import Door
from tenfold.path.limits import LimitSettings, RateLimits, compile_policies
from tenfold.path.module import ModuleRuntime
from tenfold.path.shedding import Shedder, SheddingSettings
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.limits import SharedCounter
from tenfold.runtimes.reflection import ModuleShape
from tenfold.runtimes.topology import Topology

__all__ = ["DoorSettings", "Doorkeeper", "door_settings", "fed_queues", "open_door"]


class DoorSettings(msgspec.Struct, frozen=True):
    """What of a topology the door is made from.

    `processes` share the rate limits, on all machines; `url` is the Valkey server that counts for
    all of them, and without one each has its share. `max_backlog` is by module.
    """

    product: str
    shedding: SheddingSettings | None
    limits: Mapping[str, LimitSettings]
    max_backlog: Mapping[str, int]
    processes: int
    url: str | None = None
    timeout_ms: int = 50


def door_settings(name: str, topology: Topology) -> DoorSettings:
    """What a product's topology says of its door."""
    shedding, processes = topology.shedding, topology.processes
    sheds = topology.shared if shedding.enabled is None else shedding.enabled
    return DoorSettings(
        product=name,
        shedding=shedding if sheds else None,
        limits=topology.limits,
        max_backlog=topology.queue.max_backlog,
        processes=max(1, processes.web) * max(1, len(topology.balancer.servers)),
        url=topology.cache.url,
        timeout_ms=topology.cache.timeout_ms,
    )


class _Closable(SharedCounter, Protocol):
    async def close(self) -> None: ...


class Doorkeeper:
    """A door, and what has to be begun and ended with it."""

    def __init__(self, door: Door, backlogs: Backlogs | None, counter: _Closable | None) -> None:
        self.door = door
        self._backlogs = backlogs
        self._counter = counter

    def start(self) -> None:
        """Begin to look at the queues."""
        if self._backlogs is not None:
            self._backlogs.start()

    async def stop(self) -> None:
        """Look no more, and end connections."""
        if self._backlogs is not None:
            await self._backlogs.stop()
        if self._counter is not None:
            await self._counter.close()


def open_door(
    settings: DoorSettings,
    operations: Mapping[str, OperationSpec],
    modules: Mapping[str, ModuleRuntime],
    feeds: Mapping[str, frozenset[str]],
    clock: Clock,
    ids: Ids,
) -> Doorkeeper:
    """Make the door of this process; nothing runs until it is started.

    Args:
        modules: those whose queues can be looked at here.
        feeds: by module, the queues that its commands feed; see `fed_queues`.
    Raises: UserMistakeError for limits that cannot be kept; ContractError.
    """
    policies = compile_policies(settings.limits, operations)
    counter: _Closable | None = None
    rates = None
    if policies:
        counter = _valkey(settings) if settings.url else None
        rates = RateLimits(
            policies,
            shared=counter,
            fallback=MemoryCounter(clock),
            processes=settings.processes,
            clock=clock,
            ids=ids,
        )
    shedding = settings.shedding
    backlogs = None
    if settings.max_backlog:
        _check_modules(settings.max_backlog, feeds)
        read = {n: modules[n].queue.backlog for n in settings.max_backlog if n in modules}
        backlogs = Backlogs({n: settings.max_backlog[n] for n in read}, feeds, read)
    door = Door(
        operations,
        shedder=None if shedding is None else Shedder(shedding, clock),
        rates=rates,
        backlogs=backlogs,
    )
    return Doorkeeper(door, backlogs, counter)


def fed_queues(
    shapes: Mapping[str, ModuleShape], by_event: Mapping[type, str]
) -> dict[str, frozenset[str]]:
    """By module, the queues that its commands feed: its own, and its subscribers'.

    Args:
        by_event: the module that publishes an event.
    """
    fed = {name: {name} for name in shapes}
    for name, shape in shapes.items():
        for handler in shape.handlers:
            source = by_event.get(handler.payload) if handler.kind is Kind.EVENT else None
            if source is not None:
                fed[source].add(name)
    return {name: frozenset(queues) for name, queues in fed.items()}


def _valkey(settings: DoorSettings) -> _Closable:
    from tenfold.adapters.valkey.limits import ValkeyCounter

    return ValkeyCounter(
        settings.url or "",
        namespace=f"{settings.product}:limits",
        timeout_ms=settings.timeout_ms,
    )


def _check_modules(named: Iterable[str], modules: Collection[str]) -> None:
    for name in named:
        if name not in modules:
            raise UserMistakeError(
                f"queue.max_backlog names {name!r}, which is not a module of the product. It has "
                f"{', '.join(sorted(modules))}."
            )
