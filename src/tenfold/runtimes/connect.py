"""One way to a product's data: through the process that holds it, else by opening it here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import msgspec

from tenfold.adapters.frames.link import FrameLink, connect
from tenfold.contracts.contract import Contract, read_contract
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import UserMistakeError
from tenfold.path.arguments import argument_binder
from tenfold.path.proxies import CallOptions, Proxy
from tenfold.ports.frames import PeerUnavailableError
from tenfold.ports.peers import Outgoing
from tenfold.runtimes.desk import Desk
from tenfold.runtimes.lock import DataInUseError, DataLock, holder_of
from tenfold.runtimes.roles import Role

if TYPE_CHECKING:
    from tenfold.runtimes.topology import Product, ProductFile, Topology

__all__ = ["Connection", "connect_product", "open_desk"]

_C = TypeVar("_C", bound=Contract)
_POLL_S = 0.05


class Connection(Protocol):
    """A product within reach, in this process or in the one that holds its data."""

    desk: Desk

    def proxy(self, contract: Callable[..., _C]) -> _C:
        """The module that implements a contract, as an operator's internal caller sees it."""
        ...


def connect_product(
    product: Product, data_dir: Path | None = None, *, command: str, wait_s: float = 20.0
) -> AbstractAsyncContextManager[Connection]:
    """Reach a product's modules, whether or not it is running on the same data.

    Where processes share the data, this one opens the modules beside the others,
    and does background work too unless a fleet runs on this data directory.
    Elsewhere the lock on the directory decides: where a process holds it, calls
    go to that process; else this one takes it and opens the modules itself, so
    that two writers never meet.

    Args:
        command: what this process does, for whoever finds the lock taken.
        wait_s: how long a process that is just starting or stopping is waited for.
    Raises: DataInUseError where that takes longer (NOT_DONE).
    """
    directory = data_dir or product.data_dir
    if product.topology.shared:
        return _beside(lambda: product, product.topology, directory, background=True)
    return _connect(lambda: product, directory, command, wait_s)


@asynccontextmanager
async def open_desk(
    source: ProductFile, *, command: str, background: bool = False, wait_s: float = 20.0
) -> AsyncIterator[Desk]:
    """Reach the desk of a product, as `connect_product` does, where it has data.

    Nothing of the product is imported where another process runs it.

    Args:
        background: run the product's background work where it is opened here;
            without it nothing runs while somebody looks.
    Raises: DataInUseError as `connect_product`; UserMistakeError where there is no data.
    """
    from tenfold.runtimes.topology import import_product

    if source.topology.shared:
        _refuse_without_server(source.topology, source.data_dir)
        load = partial(import_product, source)
        async with _beside(
            load, source.topology, source.data_dir, background=background
        ) as connection:
            yield connection.desk
        return
    found = await _reach(source.data_dir, command, wait_s, make=False)
    async with _connection(
        found, lambda: import_product(source), background=background
    ) as connection:
        yield connection.desk


@asynccontextmanager
async def _beside(
    load: Callable[[], Product], topology: Topology, data_dir: Path, *, background: bool
) -> AsyncIterator[Connection]:
    """Open the modules in this process, beside whoever works on the same data."""
    from tenfold.runtimes.process import hosted
    from tenfold.runtimes.resources import resourced

    # A fleet's cache is told of what is changed here; for this process alone none is started.
    servers = resourced(topology, data_dir, database_only=holder_of(data_dir) is None)
    found = await asyncio.to_thread(servers.__enter__)
    try:
        product = msgspec.structs.replace(load(), topology=found.topology, data_dir=data_dir)
        role = Role.LOOK
        if background:
            role = Role.ALL if holder_of(data_dir) is None else Role.WEB
        async with hosted(product, role) as process:
            yield process
    finally:
        await asyncio.to_thread(servers.__exit__, None, None, None)


@asynccontextmanager
async def _connect(
    load: Callable[[], Product], data_dir: Path, command: str, wait_s: float
) -> AsyncIterator[Connection]:
    found = await _reach(data_dir, command, wait_s, make=True)
    async with _connection(found, load, background=True) as connection:
        yield connection


@asynccontextmanager
async def _connection(
    found: FrameLink | DataLock, load: Callable[[], Product], *, background: bool
) -> AsyncIterator[Connection]:
    if isinstance(found, FrameLink):
        async with found:
            yield _Remote(found)
        return
    try:
        from tenfold.runtimes.process import running

        role = Role.ALL if background else Role.LOOK
        async with running(load(), found, role=role) as process:
            yield process
    finally:
        found.release()


async def _reach(
    data_dir: Path, command: str, wait_s: float, *, make: bool
) -> FrameLink | DataLock:
    """A connection to the holder of the data, or the lock on it.

    Args:
        make: begin new data where there is none.
    """
    end = asyncio.get_running_loop().time() + wait_s
    while True:
        holder = holder_of(data_dir)
        try:
            if holder is None:
                if not make:
                    _refuse_empty(data_dir)
                return DataLock.acquire(data_dir, command)
            if holder.state == "serving":
                return await connect(Path(holder.control))
        except (DataInUseError, PeerUnavailableError):
            pass  # it took or lost the lock between two looks
        if asyncio.get_running_loop().time() >= end:
            who = f"process {holder.pid} (`{holder.command}`)" if holder else "another process"
            how = f"is {holder.state}" if holder else "comes and goes"
            raise DataInUseError(
                f"The data in {data_dir} is held by {who}, which {how} and was waited for "
                f"{wait_s:g} s. Nothing was done. Try again, or stop that process.",
                holder=holder,
            )
        # Another process's progress can only be looked at, not awaited.
        await asyncio.sleep(_POLL_S)


def _refuse_empty(data_dir: Path) -> None:
    """Refuse a directory in which no product has ever run, before anything is made in it."""
    try:
        if any(name.endswith(".db") for name in os.listdir(data_dir)):
            return
        what = f"There is no product's data in the directory {data_dir}"
    except (FileNotFoundError, NotADirectoryError):
        what = f"There is no data directory {data_dir}"
    except OSError:
        return  # the lock will say why it cannot be used
    raise UserMistakeError(
        f"{what}. Nothing was done, and nothing was made there. Name the directory that the "
        "product runs on with --data or TENFOLD_DATA; `tenfold run` begins a new one."
    )


def _refuse_without_server(topology: Topology, data_dir: Path) -> None:
    """Refuse to begin a database of this machine for somebody who wants to look at one."""
    named = topology.database.url or os.environ.get("DATABASE_URL")
    if not named and not (data_dir / "postgres").exists():
        raise UserMistakeError(
            f"There is no database in {data_dir}, and none is named. Nothing was done, and nothing "
            "was made there. Name the directory that the product runs on with --data or "
            "TENFOLD_DATA, or the server with TENFOLD_DATABASE_URL; `tenfold run --topology "
            f"{topology.name}` begins a new one."
        )


class _Remote:
    """A product that runs in another process."""

    def __init__(self, client: FrameLink) -> None:
        self._client = client
        self.desk: Desk = self.proxy(cast("Callable[..., Desk]", Desk))

    def proxy(self, contract: Callable[..., _C]) -> _C:
        """See `Connection.proxy`."""
        spec = read_contract(contract)
        binders = {name: argument_binder(each) for name, each in spec.operations.items()}

        async def send(
            name: str, options: CallOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            returned = await self._client.call(
                Outgoing(
                    operation=spec.operations[name],
                    arguments=binders[name](args, kwargs),
                    principal=options.principal or OPERATOR,
                    tenant=options.tenant,
                    key=options.key,
                )
            )
            return returned.value

        def call(
            name: str, options: CallOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Awaitable[Any]:
            return send(name, options, args, kwargs)

        return cast("_C", Proxy(spec.name, tuple(spec.operations), call, CallOptions()))
