"""A product that runs in this process: its modules, and the control socket for others."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tenfold.contracts.contract import Contract
from tenfold.edges.frames import FrameServer
from tenfold.runtimes.desk import Desk
from tenfold.runtimes.desk_service import DeskService, EntryWithDesk, with_desk
from tenfold.runtimes.host import Host
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.moving.service import MOVING_OPERATIONS, MovingService
from tenfold.runtimes.roles import Role
from tenfold.runtimes.sqlite_stores import SqliteStores
from tenfold.runtimes.topology import Product

if TYPE_CHECKING:
    from tenfold.runtimes.services import Place

__all__ = ["RunningProduct", "hosted", "running"]

_C = TypeVar("_C", bound=Contract)
_COLLECT_EVERY = (10_000, 20, 20)


class RunningProduct:
    """A product whose modules run here."""

    def __init__(self, product: Product, host: Host) -> None:
        self.product = product
        self.host = host
        self.desk: Desk = DeskService(host)

    def proxy(self, contract: Callable[..., _C]) -> _C:
        """The module that implements a contract, as an operator's internal caller sees it."""
        return self.host.proxy(contract)


@asynccontextmanager
async def hosted(
    product: Product, role: Role, *, seed: bool = False, place: Place | None = None
) -> AsyncIterator[RunningProduct]:
    """Run a product's modules in one of several processes until the block ends; then drain.

    For topologies whose data processes share: nothing is locked here.

    Args:
        seed: run the product's seed function if it never ended on this data; of
            several processes at once one does, and the others wait for it.
        place: the service that this process is of, and how it reaches the others; without
            one it hosts every module.
    """
    peers = {} if place is None else place.peers(product)
    host = Host(
        product,
        data_dir=product.data_dir,
        peers=peers,
        splits=None if place is None else place.splits,
        service="" if place is None else place.service,
    )
    await host.start(role)
    try:
        if seed:
            await _seed(product, host)
        with _spared_collector():
            yield RunningProduct(product, host)
    finally:
        await host.stop(drain_s=product.topology.http.drain_s)
        if place is not None:
            await place.close()


@asynccontextmanager
async def running(
    product: Product, lock: DataLock, *, seed: bool = False, role: Role = Role.ALL
) -> AsyncIterator[RunningProduct]:
    """Run a product's modules under a lock that is held, until the block ends; then drain.

    Other processes reach it through the control socket in between. The lock
    stays with the caller.

    Args:
        seed: run the product's seed function if it never ended on this data.
        role: `Role.LOOK` to look at data and run none of its work; nobody is
            served then either, since what others ask for may need that work:
            they wait for the lock.
    """
    drain_s = product.topology.http.drain_s
    host = Host(product, data_dir=lock.directory)
    await host.start(role)
    try:
        if role is Role.LOOK:
            yield RunningProduct(product, host)
            return
        desk = DeskService(host)
        services: dict[str, object] = {"Desk": desk}
        operations = with_desk(host.operations)
        if isinstance(host.stores, SqliteStores):
            services["Moving"] = MovingService(host.stores)
            operations |= MOVING_OPERATIONS
        control = FrameServer(product.name, EntryWithDesk(host.entry, services), operations)
        if seed:
            await _seed(product, host)
        await control.start(Path(lock.holder.control))
        try:
            lock.say("serving")
            with _spared_collector():
                yield RunningProduct(product, host)
        finally:
            lock.say("stopping")
            await control.stop(drain_s=drain_s)
    finally:
        await host.stop(drain_s=drain_s)


@contextmanager
def _spared_collector() -> Iterator[None]:
    """Let the garbage collector pass over what lives as long as the process, and look less often.

    Nearly everything here is freed by its count. With Python's own settings,
    made for scripts, a fifth of an import's time went into walking the same
    modules and tables again and again.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _seed(product: Product, host: Host) -> None:
    """Run the seed once; that it ended is durable before anyone is served.

    A seed that was interrupted runs again, so it must change nothing twice.
    """
    if product.seed is not None:
        seed = product.seed
        await host.once("seeded", lambda: seed(**host.arguments(seed)))
