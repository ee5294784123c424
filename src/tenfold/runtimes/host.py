"""The host: a product's modules, opened, wired and running in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import OPERATOR, Principal
from tenfold.contracts.errors import OverloadedError
from tenfold.path.calls import Calls
from tenfold.path.delivery import Delivery
from tenfold.path.door import Door
from tenfold.path.entry import Entry
from tenfold.path.module import ModuleRuntime
from tenfold.path.operations import (
    CompiledOperation,
    Operation,
    compile_operations,
    compile_remote,
)
from tenfold.path.positions import Positions
from tenfold.path.proxies import Proxy
from tenfold.path.queue import Worker
from tenfold.path.relay import Relay
from tenfold.path.signals import Signal
from tenfold.path.splitting import SplitPeer
from tenfold.path.stops import Stops
from tenfold.path.witness import Witness, witness_resources, witnessed_operations
from tenfold.ports.clock import Clock, Ids, RandomIds, SystemClock
from tenfold.ports.news import CommitNews
from tenfold.ports.peers import Peer
from tenfold.runtimes.background import GENERATIONS, BackgroundWork
from tenfold.runtimes.brokered import Brokered
from tenfold.runtimes.brokers import open_broker
from tenfold.runtimes.caches import CacheParts, Caches, open_caches
from tenfold.runtimes.doors import Doorkeeper, door_settings, fed_queues, open_door
from tenfold.runtimes.makers import PlainMakers
from tenfold.runtimes.opening import OpenedModule, Stores, Surroundings, make_stores
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.rest import wait_for_rest
from tenfold.runtimes.roles import Role
from tenfold.runtimes.topology import Product
from tenfold.runtimes.wiring import Wiring, make_instance, run_hook

if TYPE_CHECKING:
    from tenfold.runtimes.twice import Twice

__all__ = ["Host"]

_C = TypeVar("_C")
_SETTLED_POLL_S = 0.5
_CLOSE_S = 2.0
_CANCEL = "!"
"""Between a module's name and the number of an entry that is to be cancelled."""


class Host:
    """A product in one process: every module, its database and its background work.

    Several hosts may live in one process, but only one at a time on one data
    directory; whoever starts it holds the directory's lock.
    """

    def __init__(
        self,
        product: Product,
        *,
        data_dir: Path,
        clock: Clock | None = None,
        ids: Ids | None = None,
        create_tables: bool = False,
        witness: Witness | None = None,
        peers: Mapping[str, Peer] | None = None,
        splits: Mapping[str, SplitPeer] | None = None,
        service: str = "",
    ) -> None:
        """Read the product; nothing is opened until `start`.

        Args:
            data_dir: where the modules' files are; made where it does not exist.
            create_tables: make the tables of modules that have no migrations,
                for tests.
            witness: is told what passes the stops; without one nothing is wrapped.
            peers: who answers for the modules that other processes host, by their names; all
                others are hosted here.
            splits: who answers for those that are hosted here and by a service.
            service: whose processes lead the background work of these modules by turns; the
                whole product's if empty.
        """
        self.product = product
        self.peers = dict(peers or {})
        """Who answers for the modules that are not hosted here."""
        self.splits = dict(splits or {})
        self._witness = witness
        self._around = Surroundings(
            data_dir, clock or SystemClock(), ids or RandomIds(), create_tables=create_tables
        )
        self._shapes = {name: read_module(name, cls) for name, cls in product.modules.items()}
        self._hosted = {n: shape for n, shape in self._shapes.items() if n not in self.peers}
        self._wiring = Wiring(self._shapes, self._around.clock)
        self._stores = make_stores(product.topology, self._around)
        self._opened: dict[str, OpenedModule] = {}
        self.modules: dict[str, ModuleRuntime] = {}
        self._calls: Calls | None = None
        self._doors: Doorkeeper | None = None
        self._caches: Caches | None = None
        self._twice = self._make_twice()
        self._signals = {name: Signal() for name in self._shapes}
        self._hooked: list[ModuleRuntime] = []
        self._background = BackgroundWork(
            self._around,
            self._shapes,
            self._wiring,
            self._stores,
            self._opened,
            product.topology.queue,
            self._twice or PlainMakers(witness),
            service,
        )

    async def start(self, role: Role = Role.ALL) -> None:
        """Open, migrate and wire every module, then begin what its role asks for.

        Raises: ContractError, MigrationError, UserMistakeError: nothing runs then.
        """
        try:
            if self._hosted:
                await self._open()
            await self._wire()
        except BaseException:
            await self._close(0.0)
            raise
        if role is Role.LOOK:
            return
        try:
            for runtime in self.modules.values():
                await run_hook(runtime.instance, "started")
                self._hooked.append(runtime)
            if self._hosted:
                await self._stores.listen(self._hear_others)
            await self._background.start(role)
            if self._doors is not None:
                self._doors.start()
        except BaseException:
            await self._end(0.0)
            raise

    async def _open(self) -> None:
        """Open the modules hosted here, and the others' logs, which these may follow."""
        await self._stores.start()
        settings = self.product.topology.broker
        if settings.url:
            self._background.brokered = Brokered(
                self.product.name,
                open_broker(settings),
                settings,
                self._shapes,
                self._hosted,
                self._around,
            )
        for name, shape in self._shapes.items():
            self._opened[name] = await self._stores.open(shape, self._news_of(name))
        for opened in self._opened.values():
            await opened.start()

    async def stop(self, *, drain_s: float = 10.0) -> None:
        """Admit nothing more, finish or give back what runs, then close the files.

        Args:
            drain_s: seconds for calls in flight, and again for background work.
        Raises: NotRepeatableError in the topology `twice`, once all is stopped, where something
            was found that is not safe to repeat.
        """
        if self._calls is not None:
            await self._calls.drain(drain_s)
        await self._end(drain_s)
        found = None if self._twice is None else self._twice.findings.error()
        if found is not None:
            raise found

    async def _end(self, drain_s: float) -> None:
        """End the background work and the modules that had started; the files close in any case."""
        try:
            await self._background.end(drain_s)
            hooked, self._hooked = self._hooked, []
            for runtime in hooked:
                await run_hook(runtime.instance, "stopping")
        finally:
            await self._close(drain_s)

    @property
    def door(self) -> Door | None:
        """What turns away what is too much."""
        return None if self._doors is None else self._doors.door

    @property
    def entry(self) -> Entry:
        """The way in for edges."""
        return self._running

    @property
    def operations(self) -> dict[str, OperationSpec]:
        """Every operation by `module.operation`, in the order of modules and contracts."""
        return {
            f"{name}.{operation.name}": operation
            for name, shape in self._shapes.items()
            for operation in shape.contract.operations.values()
        }

    @property
    def stores(self) -> Stores:
        """What the modules are kept in."""
        return self._stores

    @property
    def stops(self) -> Stops:
        """The stops of the path, which count and time."""
        return self._around.stops

    @property
    def clock(self) -> Clock:
        """The clock that everything here goes by."""
        return self._around.clock

    @property
    def healthy(self) -> bool:
        """Whether every module's database still writes."""
        return all(opened.healthy for opened in self._opened.values())

    @property
    def replicated(self) -> bool:
        """Whether queries may be answered by several servers."""
        return bool(self.product.topology.database.replicas)

    def hosts(self, target: str) -> bool:
        """Whether an operation, as `module.operation`, is of a module that runs here."""
        return target.partition(".")[0] in self._hosted

    @property
    def caches(self) -> Caches | None:
        """What keeps answers; None where no query asks for it."""
        return self._caches

    @property
    def brokered(self) -> Brokered | None:
        """What goes through the broker; None where there is none."""
        return self._background.brokered

    @property
    def in_flight(self) -> int:
        """Calls from outside that are being carried."""
        return 0 if self._calls is None else self._calls.in_flight

    def database_healthy(self, module: str) -> bool:
        """Whether one module's database still writes."""
        return self._opened[module].healthy

    def relay(self, module: str) -> Relay | None:
        """The relay into one module's queue; None where it subscribes to nothing."""
        return self._background.relays.get(module)

    def worker(self, module: str) -> Worker:
        """The worker of one module's queue."""
        return self._background.workers[module]

    def delivery(self, module: str) -> Delivery:
        """What runs the claimed entries of one module's queue."""
        return self._background.deliveries[module]

    def proxy(
        self, contract: Callable[..., _C], *, principal: Principal = OPERATOR, tenant: str = "main"
    ) -> _C:
        """A module by its contract, for code outside of any message.

        Args:
            principal: who acts in its calls.
            tenant: for whom.
        """
        made = self._wiring.proxy(cast("type", contract), self._running, "The caller")
        return cast("_C", made.tenfold_with({"principal": principal, "tenant": tenant}))

    def arguments(self, function: Callable[..., Any]) -> dict[str, Proxy]:
        """The modules that a mount's builder or a seed function asks for, by parameter."""
        return self._wiring.arguments(function, self._running)

    async def once(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do something once for all data and all processes. See `Stores.once`."""
        await self._stores.once(name, work)

    async def idle(self) -> None:
        """Return when every event is delivered and nothing in any queue is due or running."""
        if self._stores.shared:
            await wait_for_rest(self.modules)
        else:
            await self._background.idle()

    async def rebuild(
        self, module: str, name: str, *, anew: bool = False, partial: bool = False
    ) -> int:
        """Begin to build a projection anew, or go on with it, while the old one serves.

        Args:
            anew: drop what was built so far of one that runs or was cut short.
            partial: build it from what is left of a log that was trimmed.
        Returns: the number of the generation that is being built.
        Raises: UnknownProjectionError, LogTrimmedError (NOT_DONE).
        """
        return await self._background.rebuild(module, name, anew=anew, partial=partial)

    async def rebuilt(self, module: str, name: str) -> None:
        """Return when the rebuild of a projection has ended, if one runs."""
        await self._background.rebuilds.ended(module, name)

    @property
    def _running(self) -> Calls:
        if self._calls is None:
            raise OverloadedError(
                f"The product {self.product.name!r} is not started. Await `start()` first."
            )
        return self._calls

    async def _wire(self) -> None:
        operations: dict[str, CompiledOperation] = {}
        owners: dict[str, dict[str, Any]] = {}
        for name, shape in self._hosted.items():
            opened = self._opened[name]
            if self._witness is not None:
                witness_resources(name, opened.resources, self._witness)
            if self._twice is not None:
                self._twice.watch(opened.resources)
            settings = self.product.settings.get(name, {})
            instance, owners[name] = make_instance(shape, opened, settings, self._around.data_dir)
            runtime = ModuleRuntime(
                name, shape.contract, shape.handlers, opened.resources, instance
            )
            self.modules[name] = runtime
            compiled = (
                compile_operations(runtime)
                if self._witness is None
                else witnessed_operations(runtime, self._witness)
            )
            for short, operation in compiled.items():
                operations[f"{name}.{short}"] = operation
        epochs = {n: await opened.resources.log.epoch() for n, opened in self._opened.items()}
        logs = self._logs()
        self._doors = open_door(
            door_settings(self.product.name, self.product.topology),
            self.operations,
            logs,
            fed_queues(self._shapes, self._wiring.publishers),
            self._around.clock,
            self._around.ids,
        )
        calls = partial(
            Calls,
            door=self._doors.door,
            clock=self._around.clock,
            ids=self._around.ids,
            stops=self._around.stops,
            positions=Positions(epochs, self._background.projections, self._stores.replicas),
            settled=self._settled,
            most_in_flight=self.product.topology.http.max_concurrent,
        )
        self._calls = await self._ways(calls, operations)
        instances = {name: runtime.instance for name, runtime in self.modules.items()}
        self._wiring.hand_over(instances, self._calls)
        for name, runtime in self.modules.items():
            await self._background.add(name, runtime, owners[name])
        await self._open_caches(operations, epochs, logs)

    async def _ways(
        self, calls: Callable[[Mapping[str, Operation]], Calls], here: Mapping[str, Operation]
    ) -> Calls:
        """Every operation by the way that its calls take: `here`, or to those who answer for it."""
        contracts = {name: shape.contract for name, shape in self._shapes.items()}
        made = calls({**here, **compile_remote(self.peers, contracts)})
        if self.splits:
            for split in self.splits.values():
                split.open(made)
            made = calls({**here, **compile_remote({**self.peers, **self.splits}, contracts)})
        if self._twice is not None:
            peer = await self._twice.open(made, self.operations)
            made = calls(compile_remote(dict.fromkeys(self._shapes, peer), contracts))
        return made

    def _make_twice(self) -> Twice | None:
        if not self.product.topology.repeated:
            return None
        from tenfold.runtimes.twice import Twice

        return Twice(self.product.name, self._around.ids, witnessed=self._witness is not None)

    def _logs(self) -> dict[str, ModuleRuntime]:
        """Every module whose log can be read here; of those hosted elsewhere nothing else can."""
        found = dict(self.modules)
        for name, opened in self._opened.items():
            if name not in found:
                shape = self._shapes[name]
                found[name] = ModuleRuntime(
                    name, shape.contract, shape.handlers, opened.resources, None
                )
        return found

    async def _open_caches(
        self,
        operations: dict[str, CompiledOperation],
        epochs: dict[str, str],
        logs: dict[str, ModuleRuntime],
    ) -> None:
        """Keep the answers of queries that say so; nothing is made where none does."""
        self._caches = caches = open_caches(
            self.product.topology.cache,
            CacheParts(
                product=self.product.name,
                shapes=self._shapes,
                modules=logs,
                operations=operations,
                epochs=epochs,
                progress=self._background.projections,
                replicas=self._stores.replicas,
                clock=self._around.clock,
                ids=self._around.ids,
            ),
        )
        if caches is not None:
            for name, runtime in self.modules.items():
                works = (self.delivery(name), *self._background.batches.get(name, ()))
                caches.attach_background(works, runtime)
            await caches.start()

    def _news_of(self, name: str) -> Callable[[CommitNews], None]:
        def tell(news: CommitNews) -> None:
            self._background.hear(name, news)
            if news.head:
                self._signals[name].fire()

        return tell

    async def cancel(self, module: str, entry_id: int) -> bool:
        """Cancel an entry that is running, here or in another process, which is told to.

        Returns: whether it was running.
        """
        if self.worker(module).cancel(entry_id):
            return True
        if not self._stores.shared:
            return False
        view = await self.modules[module].queue.entry(entry_id)
        if view is None or view.state != "running":
            return False
        self._stores.tell(f"{module}{_CANCEL}{entry_id}")
        return True

    def _hear_others(self, topic: str) -> None:
        """What another process tells: a commit of a module, its generations, a cancellation."""
        name, cancels, entry_id = topic.partition(_CANCEL)
        if cancels:
            if name in self.modules and entry_id.isdecimal():
                self.worker(name).cancel(int(entry_id))
            return
        module = topic.removesuffix(GENERATIONS)
        if module in self._signals:  # else it is of a newer version of the product
            self._background.hear_others(module, generations=module != topic)
            self._signals[module].fire()

    async def _settled(
        self, module: ModuleRuntime, names: list[str], order_key: str, tenant: str, wait_s: float
    ) -> bool:
        """Wait for one of these events with this key. See `calls.Settled`."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not await module.outbox.has(names, order_key, tenant):
            left = until - loop.time()
            if left <= 0:
                return False
            # Bounded, since the signal may have come between the look and the wait.
            await self._signals[module.name].wait(min(left, _SETTLED_POLL_S))
        return True

    async def _close(self, drain_s: float) -> None:
        if self._doors is not None:
            await self._doors.stop()
        if self._twice is not None:
            await self._twice.close(drain_s)
        caches, self._caches = self._caches, None
        if caches is not None:
            await caches.stop()
        try:
            if self._background.brokered is not None:
                await self._background.brokered.close()
        finally:
            self._opened.clear()
            await self._stores.close(max(drain_s, _CLOSE_S))
