"""The cache of one process, opened from its settings and wired into its operations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tenfold.adapters.memory.cache import MemoryCache
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Struct
from tenfold.observe.cache import cache_metrics
from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.batches import Batches
from tenfold.path.caching import Caching
from tenfold.path.delivery import Delivery
from tenfold.path.dropping import Drops, ModuleDrops
from tenfold.path.fills import FillPositions, ModuleReach
from tenfold.path.module import ModuleRuntime
from tenfold.path.operations import CompiledOperation
from tenfold.path.positions import ProjectionProgress
from tenfold.ports.cache import Cache, CacheSettings, Purger
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.replicas import Replicas
from tenfold.runtimes.reflection import ModuleShape

__all__ = [
    "CacheParts",
    "Caches",
    "make_purger",
    "make_shared_cache",
    "module_reach",
    "open_caches",
]


class CacheParts(Struct):
    """What of a host the cache is wired into; `progress` may be filled in until it starts."""

    product: str
    shapes: Mapping[str, ModuleShape]
    modules: Mapping[str, ModuleRuntime]
    operations: Mapping[str, CompiledOperation]
    epochs: Mapping[str, str]
    progress: Mapping[str, ProjectionProgress]
    replicas: Replicas | None
    clock: Clock
    ids: Ids


class Caches:
    """What `open_caches` made: started and stopped with the host."""

    def __init__(self, near: MemoryCache, caching: Caching, drops: Drops) -> None:
        self.near = near
        self.caching = caching
        self.drops = drops

    async def start(self) -> None:
        """Follow what other processes drop."""
        await self.caching.start()

    async def stop(self) -> None:
        """End fills that run, and let go of what is kept."""
        await self.caching.stop()

    def metrics(self) -> list[Gauge | Counter]:
        """What it has counted, for /metrics."""
        near = self.near
        return cache_metrics(
            self.caching,
            self.drops,
            entries=near.entries,
            held_bytes=near.held_bytes,
            evicted=near.evicted,
        )

    def attach_background(self, works: Iterable[Delivery | Batches], module: ModuleRuntime) -> None:
        """Let what a module's background work commits drop kept answers."""
        dropping = ModuleDrops(self.drops, module, ())
        if dropping.needed:
            for work in works:
                work.dropping = dropping


def open_caches(
    settings: CacheSettings, parts: CacheParts, *, shared: Cache | None = None
) -> Caches | None:
    """Wire the cache into the operations that declare it; None where none does.

    Args:
        shared: the tier that processes share; made from `settings.url` if None.
    Raises: UserMistakeError where an address cannot be read.
    """
    keeps = any(
        spec.declaration.cache_s is not None
        for shape in parts.shapes.values()
        for spec in shape.contract.operations.values()
    )
    if not keeps or not parts.modules:
        # Who keeps none drops what others keep; but a gateway neither keeps nor changes anything.
        return None
    if shared is None and settings.url is not None:
        shared = make_shared_cache(settings, parts.product, parts.clock)
    near = MemoryCache(parts.clock, entries=settings.entries, max_bytes=settings.max_bytes)
    positions = FillPositions(
        parts.epochs,
        parts.progress,
        parts.replicas,
        {name: module.outbox.head for name, module in parts.modules.items()},
        module_reach(parts.shapes),
    )
    caching = Caching(near, shared, positions, parts.clock, parts.ids)
    caching.attach(parts.operations)
    purger = None if settings.purge_url is None else make_purger(settings.purge_url)
    contracts = {name: shape.contract for name, shape in parts.shapes.items()}
    drops = Drops(caching, purger, contracts)
    for module in parts.modules.values():
        module.drops = drops
    for operation in parts.operations.values():
        if not operation.is_query:
            invalidates = operation.spec.declaration.invalidates
            dropping = ModuleDrops(drops, operation.module, invalidates)
            if dropping.needed:
                operation.dropping = dropping
    return Caches(near, caching, drops)


def make_shared_cache(settings: CacheSettings, product: str, clock: Clock) -> Cache:
    """The cache at `settings.url`. Its library is loaded only here."""
    from tenfold.adapters.valkey.cache import ValkeyCache

    return ValkeyCache(
        settings.url or "", clock, namespace=f"{product}:cache", timeout_ms=settings.timeout_ms
    )


def make_purger(url: str) -> Purger:
    """What tells a CDN at this address what to drop. TLS is loaded only here."""
    from tenfold.adapters.purge import HttpPurger

    return HttpPurger(url)


def module_reach(shapes: Mapping[str, ModuleShape]) -> dict[str, ModuleReach]:
    """Which modules' state can show in the answers of each."""
    by_contract = {shape.contract.contract: name for name, shape in shapes.items()}
    by_event = {
        event: name for name, shape in shapes.items() for event in shape.contract.events.values()
    }
    return {
        name: ModuleReach(
            asks=tuple(by_contract[c] for c in shape.needs.values() if c in by_contract),
            follows=tuple(sorted(_followed(shape, by_event))),
        )
        for name, shape in shapes.items()
    }


def _followed(shape: ModuleShape, by_event: Mapping[Any, str]) -> set[str]:
    return {
        by_event[handler.payload]
        for handler in shape.handlers
        if handler.projection is not None
        and handler.kind is Kind.EVENT
        and handler.payload in by_event
    }
