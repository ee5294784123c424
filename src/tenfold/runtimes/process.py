"""A product that runs in this process: its modules, and the control socket for others."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from tenfold.contracts.contract import Contract
from tenfold.edges.control import ControlServer
from tenfold.runtimes.desk import Desk
from tenfold.runtimes.desk_service import DeskService, EntryWithDesk, with_desk
from tenfold.runtimes.host import Host
from tenfold.runtimes.lock import DataLock
from tenfold.runtimes.topology import Product

__all__ = ["RunningProduct", "running"]

_C = TypeVar("_C", bound=Contract)
_SEEDED = "seeded"
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
async def running(
    product: Product, lock: DataLock, *, seed: bool = False, background: bool = True
) -> AsyncIterator[RunningProduct]:
    """Run a product's modules under a lock that is held, until the block ends; then drain.

    Other processes reach it through the control socket in between. The lock
    stays with the caller.

    Args:
        seed: run the product's seed function if it never ended on this data.
        background: false to look at data and run none of its work; nobody is
            served then either, since what others ask for may need that work:
            they wait for the lock.
    """
    drain_s = product.topology.http.drain_s
    host = Host(product, data_dir=lock.directory)
    await host.start(background=background)
    try:
        if not background:
            yield RunningProduct(product, host)
            return
        desk = DeskService(host)
        control = ControlServer(
            product.name, EntryWithDesk(host.entry, desk), with_desk(host.operations)
        )
        if seed:
            await _seed(product, host, lock.directory)
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


async def _seed(product: Product, host: Host, directory: Path) -> None:
    """Run the seed once; that it ended is on the disk before anyone is served.

    A seed that was interrupted runs again, so it must change nothing twice.
    """
    if product.seed is None or (directory / _SEEDED).exists():
        return
    await product.seed(**host.arguments(product.seed))
    _note_seeded(product.name, directory)


def _note_seeded(name: str, directory: Path) -> None:
    partial = directory / f"{_SEEDED}.partial"
    with partial.open("wb") as file:
        file.write(msgspec.json.encode({"product": name, "at": datetime.now(UTC)}))
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / _SEEDED)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
