"""The host: a product's modules, opened, wired and running in this process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from tenfold.adapters.sqlite.writer import CommitNews
from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import OPERATOR, Envelope, Principal
from tenfold.contracts.errors import OverloadedError
from tenfold.contracts.operations import Kind
from tenfold.path.background import NoArguments
from tenfold.path.calls import Calls
from tenfold.path.delivery import Delivery
from tenfold.path.entry import Entry
from tenfold.path.module import ModuleRuntime, new_trace
from tenfold.path.operations import CompiledOperation, compile_operations
from tenfold.path.positions import Positions
from tenfold.path.projection import (
    ProjectionParts,
    Projections,
)
from tenfold.path.proxies import Proxy
from tenfold.path.queue import Worker, WorkerLimits, WorkerParts
from tenfold.path.relay import Feed, Relay, RelayParts
from tenfold.path.retention import Retained, Retention, RetentionParts
from tenfold.path.schedule import ScheduleParts, Schedules
from tenfold.path.signals import Signal
from tenfold.path.stops import Stops
from tenfold.path.witness import (
    Witness,
    WitnessedDelivery,
    witness_resources,
    witnessed_operations,
)
from tenfold.ports.clock import Clock, Ids, RandomIds, SystemClock
from tenfold.runtimes.opening import OpenedModule, Surroundings, open_module
from tenfold.runtimes.rebuilds import Rebuilds
from tenfold.runtimes.reflection import read_module
from tenfold.runtimes.topology import Product
from tenfold.runtimes.wiring import Wiring, make_instance

__all__ = ["Host"]

_C = TypeVar("_C")
_SETTLED_POLL_S = 0.5
_CLOSE_S = 2.0
_READERS_S = 0.2
MAIN_TENANT = "main"


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
    ) -> None:
        """Read the product; nothing is opened until `start`.

        Args:
            data_dir: where the modules' files are; made where it does not exist.
            create_tables: make the tables of modules that have no migrations,
                for tests.
            witness: is told what passes the stops; without one nothing is wrapped.
        """
        self.product = product
        self._witness = witness
        self._around = Surroundings(
            data_dir, clock or SystemClock(), ids or RandomIds(), create_tables=create_tables
        )
        self._shapes = {name: read_module(name, cls) for name, cls in product.modules.items()}
        self._wiring = Wiring(self._shapes, self._around.clock)
        self._opened: dict[str, OpenedModule] = {}
        self.modules: dict[str, ModuleRuntime] = {}
        self._calls: Calls | None = None
        self._relays: dict[str, Relay] = {}
        self._workers: dict[str, Worker] = {}
        self._deliveries: dict[str, Delivery] = {}
        self._schedules: dict[str, Schedules] = {}
        self._signals = {name: Signal() for name in self._shapes}
        self._followers: dict[str, list[str]] = {name: [] for name in self._shapes}
        self._projections: dict[str, Projections] = {}
        self._unfinished: dict[str, list[str]] = {}
        self._retention: Retention | None = None
        self._rebuilds = Rebuilds(self._projections)

    async def start(self) -> None:
        """Open, migrate and wire every module, then begin the background work.

        Raises: ContractError, MigrationError, UserMistakeError: nothing runs then.
        """
        self._around.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            for name, shape in self._shapes.items():
                self._opened[name] = open_module(shape, self._around, self._news_of(name))
            for opened in self._opened.values():
                await opened.start()
            await self._wire()
        except BaseException:
            await self._close(0.0)
            raise
        hooked: list[ModuleRuntime] = []
        try:
            for runtime in self.modules.values():
                await _hook(runtime.instance, "started")
                hooked.append(runtime)
            await self._begin_background()
        except BaseException:
            await self._end(hooked, 0.0)
            raise

    async def stop(self, *, drain_s: float = 10.0) -> None:
        """Admit nothing more, finish or give back what runs, then close the files.

        Args:
            drain_s: seconds for calls in flight, and again for background work.
        """
        if self._calls is not None:
            await self._calls.drain(drain_s)
        await self._end(list(self.modules.values()), drain_s)

    async def _end(self, hooked: list[ModuleRuntime], drain_s: float) -> None:
        """End the background work and the modules that had started; the files close in any case."""
        try:
            await self._rebuilds.stop()
            if self._retention is not None:
                await self._retention.stop()
            await asyncio.gather(*(schedules.stop() for schedules in self._schedules.values()))
            await asyncio.gather(*(relay.stop() for relay in self._relays.values()))
            await asyncio.gather(*(worker.drain(drain_s) for worker in self._workers.values()))
            for runtime in hooked:
                await _hook(runtime.instance, "stopping")
        finally:
            await self._close(drain_s)

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
        return all(opened.store.healthy for opened in self._opened.values())

    @property
    def in_flight(self) -> int:
        """Calls from outside that are being carried."""
        return 0 if self._calls is None else self._calls.in_flight

    def database_healthy(self, module: str) -> bool:
        """Whether one module's database still writes."""
        return self._opened[module].store.healthy

    def relay(self, module: str) -> Relay | None:
        """The relay into one module's queue; None where it subscribes to nothing."""
        return self._relays.get(module)

    def worker(self, module: str) -> Worker:
        """The worker of one module's queue."""
        return self._workers[module]

    def delivery(self, module: str) -> Delivery:
        """What runs the claimed entries of one module's queue."""
        return self._deliveries[module]

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

    async def idle(self) -> None:
        """Return when every event is delivered and nothing in any queue is due or running."""
        resting: list[Relay | Worker] = [*self._relays.values(), *self._workers.values()]
        while not all(part.resting for part in resting):
            for part in resting:
                await part.wait_resting()

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
        return await self._rebuilds.begin(module, name, anew=anew, partial=partial)

    async def rebuilt(self, module: str, name: str) -> None:
        """Return when the rebuild of a projection has ended, if one runs."""
        await self._rebuilds.ended(module, name)

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
        for name, shape in self._shapes.items():
            opened = self._opened[name]
            if self._witness is not None:
                witness_resources(name, opened.resources, self._witness)
            settings = self.product.settings.get(name, {})
            instance, owners[name] = make_instance(shape, opened, settings)
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
        epochs = {name: await runtime.outbox.epoch() for name, runtime in self.modules.items()}
        self._calls = Calls(
            operations,
            clock=self._around.clock,
            ids=self._around.ids,
            stops=self._around.stops,
            positions=Positions(epochs, self._projections),
            settled=self._settled,
            most_in_flight=self.product.topology.http.max_concurrent,
        )
        instances = {name: runtime.instance for name, runtime in self.modules.items()}
        self._wiring.hand_over(instances, self._calls)
        for name, runtime in self.modules.items():
            await self._make_background(name, runtime, owners[name])

    async def _make_background(
        self, name: str, runtime: ModuleRuntime, owners: dict[str, Any]
    ) -> None:
        around = self._around
        shape = self._shapes[name]
        limits = self.product.topology.queue
        self._deliveries[name] = delivery = (
            Delivery(runtime, owners)
            if self._witness is None
            else WitnessedDelivery(runtime, owners, self._witness)
        )
        worker = Worker(
            WorkerParts(
                module=name,
                queue=runtime.queue,
                handle=delivery.handle,
                backgrounds={h.name: h.background for h in shape.handlers},
                clock=around.clock,
                ids=around.ids,
                stop=around.stops.queue,
                obsolete=lambda entry: (
                    name in self._projections and self._projections[name].obsolete(entry)
                ),
                limits=WorkerLimits(batch=limits.batch, concurrency=limits.concurrency),
            )
        )
        self._workers[name] = worker
        feeds = self._wiring.feeds(name)
        if feeds:
            await self._follow(name, runtime, worker, feeds)
        crons = {h.name: h.cron for h in shape.handlers if h.cron is not None}
        if crons:
            self._schedules[name] = Schedules(
                ScheduleParts(
                    module=name,
                    queue=runtime.queue,
                    desk=runtime.queue,
                    worker=worker,
                    clock=around.clock,
                    crons=crons,
                    make_body=self._schedule_body(name),
                )
            )

    async def _follow(
        self,
        name: str,
        runtime: ModuleRuntime,
        worker: Worker,
        feeds: dict[str | None, list[Feed]],
    ) -> None:
        names = {feed.source for group in feeds.values() for feed in group}
        sources = {source: self.modules[source].outbox for source in sorted(names)}
        relay = Relay(
            RelayParts(
                module=name,
                queue=runtime.queue,
                sources=sources,
                worker=worker,
                clock=self._around.clock,
                stop=self._around.stops.relay,
            ),
            feeds.get(None, []),
        )
        store = self._opened[name].store

        def swapped(projection: str, generation: int) -> None:
            store.generations = {**store.generations, projection: generation}

        projections = Projections(
            ProjectionParts(
                module=name,
                generations=runtime.generations,
                queue=runtime.queue,
                desk=runtime.queue,
                relay=relay,
                sources=dict(sources),
                feeds={p: group for p, group in feeds.items() if p is not None},
                moved=worker.moved,
                on_swap=swapped,
            )
        )
        self._unfinished[name] = await projections.load()
        relay.follow(projections.active_feeds())
        self._relays[name] = relay
        self._projections[name] = projections
        for source in sources:
            self._followers[source].append(name)

    async def _begin_background(self) -> None:
        # This process holds the data directory alone: whoever claimed before it is gone.
        for runtime in self.modules.values():
            await runtime.queue.release_claims()
        for worker in self._workers.values():
            worker.start()
        for relay in self._relays.values():
            relay.start()
        for schedules in self._schedules.values():
            await schedules.ensure()
            schedules.start()
        self._retention = Retention(
            RetentionParts(
                modules={
                    name: Retained(
                        outbox=runtime.outbox,
                        queue=runtime.queue,
                        relay=self._relays.get(name),
                        retain_days=self._shapes[name].retain_days,
                    )
                    for name, runtime in self.modules.items()
                },
                clock=self._around.clock,
            )
        )
        self._retention.start()
        self._listen_to_jumps()
        for module, names in self._unfinished.items():
            for name in {*names, *self._opened[module].outdated}:
                await self._rebuilds.go_on(module, name)

    def _listen_to_jumps(self) -> None:
        """A clock that tests hold tells when it was moved: whoever sleeps until a moment looks."""
        on_jump: list[Callable[[], None]] | None = getattr(self._around.clock, "on_jump", None)
        if on_jump is not None:
            sleepers = (self._workers, self._relays, self._schedules)
            on_jump.extend(part.wake for group in sleepers for part in group.values())

    def _news_of(self, name: str) -> Callable[[CommitNews], None]:
        def tell(news: CommitNews) -> None:
            if news.entries and name in self._workers:
                self._workers[name].wake()
            if news.head:
                for follower in self._followers[name]:
                    self._relays[follower].wake()
                self._signals[name].fire()

        return tell

    def _schedule_body(self, module: str) -> Callable[[str, str, datetime], bytes]:
        encode = msgspec.msgpack.Encoder().encode
        around = self._around

        def make(handler: str, message_id: str, at: datetime) -> bytes:
            return encode(
                Envelope(
                    id=message_id,
                    kind=Kind.SCHEDULE,
                    target=f"{module}.{handler}",
                    payload=NoArguments(),
                    principal=Principal(id=f"schedule:{module}", permissions=("*",)),
                    tenant=MAIN_TENANT,
                    trace=new_trace(around.ids, None),
                    at=at,
                )
            )

        return make

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
        """Close every file, off the loop: what a writer still commits is answered on it."""
        opened = list(self._opened.values())
        self._opened.clear()
        await asyncio.to_thread(_close_all, opened, self._around, max(drain_s, _CLOSE_S))


def _close_all(opened: list[OpenedModule], around: Surroundings, wait_s: float) -> None:
    until = time.monotonic() + wait_s
    for module in opened:
        module.close(max(until - time.monotonic(), 0.0))
    around.readers.close(max(until - time.monotonic(), _READERS_S))


async def _hook(instance: Any, name: str) -> None:
    """Run `started` or `stopping` of a module that has it."""
    method: Callable[[], Awaitable[None]] | None = getattr(instance, name, None)
    if method is not None:
        await method()
