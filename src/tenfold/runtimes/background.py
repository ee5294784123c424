"""A product's background work in this process: workers, relays, schedules, projections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any

import msgspec
import structlog

from tenfold.contracts.envelope import Envelope, Principal
from tenfold.contracts.operations import Kind
from tenfold.path.attempts import error_text
from tenfold.path.background import NoArguments
from tenfold.path.batches import Batches
from tenfold.path.carrying import MOST
from tenfold.path.delivery import Delivery
from tenfold.path.module import ModuleRuntime, new_trace
from tenfold.path.projection import ProjectionParts, Projections
from tenfold.path.queue import Worker, WorkerLimits, WorkerParts
from tenfold.path.relay import Feed, Relay, RelayLimits, RelayParts
from tenfold.path.retention import Retained, Retention, RetentionParts
from tenfold.path.schedule import ScheduleParts, Schedules
from tenfold.ports.news import CommitNews
from tenfold.ports.outbox import Log
from tenfold.ports.transfer import Transfer
from tenfold.runtimes.brokered import Brokered
from tenfold.runtimes.makers import Makers
from tenfold.runtimes.opening import OpenedModule, Stores, Surroundings
from tenfold.runtimes.rebuilds import Rebuilds
from tenfold.runtimes.reflection import ModuleShape
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import QueueLimits
from tenfold.runtimes.wiring import Wiring

__all__ = ["GENERATIONS", "BackgroundWork"]

MAIN_TENANT = "main"
GENERATIONS = "#generations"
"""What follows a module's name in a notice that generations of its projections have changed."""
_REFRESH_S = 10.0
_GRACE_S = 5.0
_log = structlog.get_logger("tenfold.host")


class BackgroundWork:
    """What runs beside the calls: one worker for each module, and what feeds its queue."""

    def __init__(
        self,
        around: Surroundings,
        shapes: Mapping[str, ModuleShape],
        wiring: Wiring,
        stores: Stores,
        opened: Mapping[str, OpenedModule],
        limits: QueueLimits,
        makers: Makers,
        service: str = "",
    ) -> None:
        self._service = service
        self._around = around
        self._stores = stores
        self._shapes = shapes
        self._wiring = wiring
        self._opened = opened
        self._limits = limits
        self._makers = makers
        self._modules: dict[str, ModuleRuntime] = {}
        self.relays: dict[str, Relay] = {}
        self.workers: dict[str, Worker] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.projections: dict[str, Projections] = {}
        self.rebuilds = Rebuilds(self.projections)
        self._schedules: dict[str, Schedules] = {}
        self._followers: dict[str, list[Relay]] = {name: [] for name in shapes}
        self._past_queue: dict[str, Relay] = {}
        """What carries elsewhere than into a queue: to handlers in batches, and to a broker."""
        self.batches: dict[str, list[Batches]] = {}
        """What handles events in batches, by module."""
        self.brokered: Brokered | None = None
        """What carries events between services; None where the database does."""
        self._leads = False
        self._refreshing: set[asyncio.Task[None]] = set()
        self._retention: Retention | None = None

    async def add(self, name: str, runtime: ModuleRuntime, owners: dict[str, Any]) -> None:
        """Make what one module's background work needs; nothing begins before `start`.

        Args:
            owners: the instance of each of its projections, by name.
        """
        around = self._around
        shape = self._shapes[name]
        self._modules[name] = runtime
        self.deliveries[name] = delivery = self._makers.delivery(runtime, owners)
        worker = Worker(
            WorkerParts(
                module=name,
                queue=runtime.queue,
                handle=delivery.begin,
                backgrounds={h.name: h.background for h in shape.handlers},
                clock=around.clock,
                ids=around.ids,
                stop=around.stops.queue,
                # Asked for every entry, so not at all where there are no projections.
                obsolete=None
                if not owners
                else lambda entry: (
                    name in self.projections and self.projections[name].obsolete(entry)
                ),
                limits=WorkerLimits(batch=self._limits.batch, concurrency=self._limits.concurrency),
            )
        )
        self.workers[name] = worker
        if self.brokered is not None:
            publishing = self.brokered.publishing(name, self._opened[name])
            if publishing is not None:
                self._carry_past(name, runtime, worker, *publishing, most=MOST)
        feeds = self._wiring.feeds(name)
        for feed in [feed for feed in feeds.get(None, ()) if feed.batch is not None]:
            feeds[None].remove(feed)
            self._follow_in_batches(name, runtime, worker, feed)
        if any(feeds.values()):
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

    async def start(self, role: Role) -> None:
        """Begin what a role asks for.

        Queues are worked by every process that works. Of those one leads: it follows the
        logs, keeps the schedules, trims, and rebuilds projections.
        """
        if self._stores.shared and self.projections:
            self._spawn(self._refresh_now_and_then())
        if not role.works:
            return
        if not self._stores.shared:
            # This process holds the data directory alone: whoever claimed before it is gone.
            for runtime in self._modules.values():
                await runtime.queue.release_claims()
        for worker in self.workers.values():
            worker.start()
        self._listen_to_jumps()
        await self._stores.lead(self._lead, self._follow_again, self._service)

    async def _lead(self) -> None:
        """Begin what only one process does at a time."""
        unfinished: dict[str, set[str]] = {}
        for name, projections in self.projections.items():
            # What was known at the start may be long past: others may have led meanwhile.
            outdated = await self._opened[name].tidy()
            unfinished[name] = {*outdated, *await projections.refresh()}
        self._leads = True
        for relay in (*self.relays.values(), *self._past_queue.values()):
            relay.start()
        for schedules in self._schedules.values():
            await schedules.ensure()
            schedules.start()
        self._retention = Retention(
            RetentionParts(
                modules={name: self._retained(name) for name in self._opened},
                clock=self._around.clock,
                published=self.brokered is not None,
            )
        )
        self._retention.start()
        for module, names in unfinished.items():
            for name in names:
                await self.rebuilds.go_on(module, name)

    def _retained(self, name: str) -> Retained:
        """What is trimmed of a module; of another service's nothing, but it may follow what is."""
        resources = self._opened[name].resources
        own = name in self._modules
        feeds = [] if own else [f for group in self._wiring.feeds(name).values() for f in group]
        return Retained(
            outbox=resources.log,
            queue=resources.queue,
            relay=self.relays.get(name),
            retain_days=self._shapes[name].retain_days,
            own=own,
            feeds=tuple(feeds),
        )

    async def _follow_again(self) -> None:
        """End what only one process does, since another does it now or is to."""
        self._leads = False
        await self.rebuilds.stop()
        if self._retention is not None:
            await self._retention.stop()
            self._retention = None
        await asyncio.gather(*(schedules.stop() for schedules in self._schedules.values()))
        relays = (*self.relays.values(), *self._past_queue.values())
        await asyncio.gather(*(relay.stop() for relay in relays))
        if self.brokered is not None:
            await self.brokered.rest()

    async def idle(self) -> None:
        """Return when every event is delivered and nothing in any queue is due or running."""
        relays = (*self.relays.values(), *self._past_queue.values())
        resting: list[Relay | Worker] = [*relays, *self.workers.values()]
        while not all(part.resting for part in resting):
            for part in resting:
                await part.wait_resting()

    async def end(self, drain_s: float) -> None:
        """Finish or give back what runs, within a bound, and stop the rest."""
        await self._stores.stop_leading()
        for task in self._refreshing:
            task.cancel()
        await asyncio.gather(*self._refreshing, return_exceptions=True)
        await self._follow_again()
        await asyncio.gather(*(worker.drain(drain_s) for worker in self.workers.values()))

    def hear(self, module: str, news: CommitNews) -> None:
        """Wake whoever has something to do after a commit of one module."""
        if news.entries and module in self.workers:
            self.workers[module].wake()
        if news.head:
            self._wake_followers(module)

    def hear_others(self, module: str, *, generations: bool) -> None:
        """Wake whoever may have something to do after a commit of another process.

        Args:
            generations: what was changed is which generations of its projections there are.
        """
        if generations:
            if module in self.projections:
                self._spawn(self._refresh(module))
            return
        if module in self.workers:
            self.workers[module].wake()
        self._wake_followers(module)

    async def rebuild(self, module: str, name: str, *, anew: bool, partial: bool) -> int:
        """Begin a rebuild here, or let the process that leads do it. See `Host.rebuild`."""
        if self._stores.shared and not self._leads and module in self.projections:
            return await self.projections[module].ask(name, anew=anew, partial=partial)
        return await self.rebuilds.begin(module, name, anew=anew, partial=partial)

    def _wake_followers(self, module: str) -> None:
        for relay in self._followers.get(module, ()):
            relay.wake()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _refresh(self, module: str) -> None:
        """Learn which generations there are; whoever leads goes on with those being built."""
        try:
            unfinished = await self.projections[module].refresh()
            await self._opened[module].refresh_generations()
        except Exception as error:  # of whatever kind: the next look makes up for it
            _log.warning("generations_not_read", module=module, error=error_text(error))
            return
        if self._leads:
            for name in unfinished:
                await self.rebuilds.go_on(module, name)

    async def _refresh_now_and_then(self) -> None:
        """A notice may be missed."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            for module in self.projections:
                await self._refresh(module)

    async def _follow(
        self,
        name: str,
        runtime: ModuleRuntime,
        worker: Worker,
        feeds: dict[str | None, list[Feed]],
    ) -> None:
        events: dict[str, set[str]] = {}
        for feed in (feed for group in feeds.values() for feed in group):
            events.setdefault(feed.source, set()).update(feed.events)

        def wake() -> None:
            self.relays[name].wake()

        sources: dict[str, Log] = {
            source: self._log_for(source, names, wake) for source, names in sorted(events.items())
        }
        beside = [source for source in sources if not self._by_broker(source)]
        relay = Relay(
            RelayParts(
                module=name,
                queue=runtime.queue,
                sources=sources,
                worker=worker,
                clock=self._around.clock,
                stop=self._around.stops.relay,
                transfers=self._stores.transfers(name, beside),
                on_added=lambda: self._stores.tell(name),
            ),
            feeds.get(None, []),
        )
        projections = Projections(
            ProjectionParts(
                module=name,
                generations=runtime.generations,
                queue=runtime.queue,
                desk=runtime.queue,
                relay=relay,
                sources=sources,
                feeds={p: group for p, group in feeds.items() if p is not None},
                moved=worker.moved,
                on_swap=self._opened[name].answer_from,
                shared=self._stores.shared,
                on_change=lambda: self._stores.tell(f"{name}{GENERATIONS}"),
                grace_s=_GRACE_S if self._stores.shared else 0.0,
            )
        )
        await projections.load()
        relay.follow(projections.active_feeds())
        self.relays[name] = relay
        self.projections[name] = projections
        for source in beside:
            self._followers[source].append(relay)

    def _follow_in_batches(
        self, name: str, runtime: ModuleRuntime, worker: Worker, feed: Feed
    ) -> None:
        """Handle what one subscription for volume asks for, past the queue."""

        def wake() -> None:
            relay.wake()

        log = self._log_for(feed.source, set(feed.events), wake)
        spec = runtime.handlers[feed.handler]
        batches = self._makers.batches(runtime, spec, feed.source, log)
        relay = self._carry_past(name, runtime, worker, batches, feed, log, most=feed.batch or 1)
        batches.wake = relay.wake
        self.batches.setdefault(name, []).append(batches)

    def _carry_past(
        self,
        name: str,
        runtime: ModuleRuntime,
        worker: Worker,
        transfer: Transfer,
        feed: Feed,
        log: Log | None = None,
        *,
        most: int,
    ) -> Relay:
        """Let a relay of its own carry what a feed asks for, elsewhere than into the queue.

        Args:
            log: the one that it follows, if not the module's own.
            most: events at once.
        """
        relay = self._past_queue[f"{name}.{feed.handler}"] = Relay(
            RelayParts(
                module=name if log is not None else "broker",
                queue=runtime.queue,
                sources={feed.source: log or runtime.outbox},
                worker=worker,
                clock=self._around.clock,
                stop=self._around.stops.relay,
                limits=RelayLimits(transfer=most),
                transfers={feed.source: transfer},
            ),
            [feed],
        )
        if not self._by_broker(feed.source):
            self._followers[feed.source].append(relay)
        return relay

    def _by_broker(self, source: str) -> bool:
        return self.brokered is not None and self.brokered.carries(source)

    def _log_for(self, source: str, names: set[str], on_news: Callable[[], None]) -> Log:
        """The log that a module follows: the source's own, or as it comes by the broker."""
        opened = self._opened[source]
        if self.brokered is None or not self.brokered.carries(source):
            return opened.resources.log
        return self.brokered.log(source, opened, names, on_news)

    def _listen_to_jumps(self) -> None:
        """A clock that tests hold tells when it was moved: whoever sleeps until a moment looks."""
        on_jump: list[Callable[[], None]] | None = getattr(self._around.clock, "on_jump", None)
        if on_jump is not None:
            sleepers = (self.workers, self.relays, self._past_queue, self._schedules)
            on_jump.extend(part.wake for group in sleepers for part in group.values())

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
