"""The desk's work, over the ports of a running product's modules."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, final

import msgspec

from tenfold.contracts.contract import OperationSpec, read_contract
from tenfold.contracts.operations import Kind
from tenfold.path.entry import Entry, Incoming, Reply
from tenfold.path.module import ModuleRuntime, new_trace
from tenfold.path.replay import find_position, replay_bite
from tenfold.ports.clock import Clock, RandomIds, SystemClock
from tenfold.ports.records import EntryView
from tenfold.runtimes.desk import (
    Backlog,
    Desk,
    EntryDetail,
    EntrySummary,
    HandlerCounts,
    NoSuchEntry,
    NoSuchName,
    NotReplayable,
    ProjectionStatus,
    Replayed,
)
from tenfold.runtimes.host import Host
from tenfold.runtimes.rest import count_undelivered, source_of

__all__ = ["DESK_OPERATIONS", "DeskService", "EntryWithDesk"]

DESK_OPERATIONS: dict[str, OperationSpec] = {
    f"tenfold.{name}": spec for name, spec in read_contract(Desk).operations.items()
}
"""The desk's operations by the name that they are called by."""


@final
class DeskService(Desk):
    """Answers the desk's operations in the process that holds the data."""

    def __init__(self, host: Host, clock: Clock | None = None) -> None:
        self._host = host
        self._clock = clock or SystemClock()

    async def queue_counts(self, module: str | None = None) -> list[HandlerCounts]:
        """See `Desk.queue_counts`."""
        return [
            HandlerCounts(module=runtime.name, handler=handler, **states)
            for runtime in self._chosen(module)
            for handler, states in sorted((await runtime.queue.counts()).items())
        ]

    async def queue_entries(
        self,
        module: str | None = None,
        state: str | None = None,
        handler: str | None = None,
        limit: int = 50,
    ) -> list[EntrySummary]:
        """See `Desk.queue_entries`."""
        found: list[EntrySummary] = []
        chosen = self._chosen(module)
        known = {name for runtime in chosen for name in runtime.handlers}
        if handler is not None and handler not in known:
            raise NoSuchName(name=handler, known=sorted(known))
        for runtime in chosen:
            views = await runtime.queue.entries(state=state, handler=handler, after=0, limit=limit)
            found += [EntrySummary(**_summary(runtime.name, view)) for view in views]
        return found[:limit]

    async def queue_entry(self, module: str, entry_id: int) -> EntryDetail:
        """See `Desk.queue_entry`."""
        view = await self._module(module).queue.entry(entry_id)
        if view is None:
            raise NoSuchEntry(ref=f"{module}:{entry_id}")
        return EntryDetail(
            **_summary(module, view),
            message_id=view.message_id,
            tenant=view.tenant,
            generation=view.generation,
            message=_readable(view.body),
        )

    async def queue_retry(self, module: str, entry_ids: list[int]) -> int:
        """See `Desk.queue_retry`."""
        return await self._module(module).queue.retry(entry_ids)

    async def queue_discard(self, module: str, entry_ids: list[int]) -> int:
        """See `Desk.queue_discard`."""
        return await self._module(module).queue.discard(entry_ids)

    async def queue_cancel(self, module: str, entry_ids: list[int]) -> int:
        """See `Desk.queue_cancel`."""
        name = self._module(module).name
        return sum([await self._host.cancel(name, entry_id) for entry_id in entry_ids])

    async def queue_replay(
        self,
        module: str,
        handler: str,
        after: int | None = None,
        since: datetime | None = None,
        upto: int | None = None,
        run: int | None = None,
        limit: int = 500,
    ) -> Replayed:
        """See `Desk.queue_replay`."""
        runtime = self._module(module)
        spec = runtime.handlers.get(handler)
        if spec is None:
            raise NoSuchName(name=handler, known=sorted(runtime.handlers))
        if spec.kind is not Kind.EVENT:
            raise NotReplayable(name=handler, why="It is no subscription: it has no past events.")
        if spec.projection is not None:
            raise NotReplayable(
                name=handler,
                why=f"Rebuild its projection: tenfold projections rebuild {module} "
                f"{spec.projection}",
            )
        source, event = source_of(self._host.modules, spec.payload)
        log = self._host.modules[source].outbox
        if upto is None:
            upto = await log.head()
        if after is None:
            after = await log.floor() if since is None else await find_position(log, event, since)
        # A number that no replay had before, and that fits where generations are kept.
        run = run or int(self._clock.now().timestamp())
        bite = await replay_bite(
            runtime, spec, source, log, event, run=run, after=after, upto=upto, limit=limit
        )
        if bite.added:
            self._host.stores.tell(module)
            self._host.worker(module).wake()
        states = (await runtime.queue.counts()).get(handler, {})
        return Replayed(
            run=run,
            position=bite.position,
            upto=upto,
            added=bite.added,
            waiting=states.get("waiting", 0) + states.get("running", 0),
        )

    async def projections(self) -> list[ProjectionStatus]:
        """See `Desk.projections`."""
        found: list[ProjectionStatus] = []
        for runtime in self._chosen(None):
            for name, state in sorted((await runtime.generations.state()).items()):
                found.append(
                    ProjectionStatus(
                        module=runtime.name,
                        name=name,
                        active=state.active,
                        building=state.building,
                        behind=await count_undelivered(
                            self._host.modules,
                            runtime,
                            prefix=f"{name}.",
                            generation=state.building or state.active,
                        ),
                    )
                )
        return found

    async def rebuild_projection(
        self, module: str, name: str, anew: bool = False, partial: bool = False
    ) -> int:
        """See `Desk.rebuild_projection`."""
        known = await self._module(module).generations.state()
        if name not in known:
            raise NoSuchName(name=name, known=sorted(known))
        return await self._host.rebuild(module, name, anew=anew, partial=partial)

    async def backlog(self) -> Backlog:
        """See `Desk.backlog`."""
        waiting = running = dead = later = undelivered = 0
        dues: list[datetime] = []
        now = self._clock.now()
        for runtime in self._chosen(None):
            for states in (await runtime.queue.counts()).values():
                waiting += states.get("waiting", 0)
                running += states.get("running", 0)
                dead += states.get("dead", 0)
            later += await self._later(runtime, now)
            due = await runtime.queue.next_due()
            dues += [due] if due is not None else []
            undelivered += await count_undelivered(self._host.modules, runtime)
        return Backlog(
            undelivered=undelivered,
            due=max(0, waiting - later),
            later=min(later, waiting),
            running=running,
            dead=dead,
            next_due=min(dues, default=None),
        )

    async def wait_idle(self, timeout_s: float) -> bool:
        """See `Desk.wait_idle`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._host.idle()
        except TimeoutError:
            return False
        return True

    def _chosen(self, module: str | None) -> list[ModuleRuntime]:
        if module is not None:
            return [self._module(module)]
        return [runtime for _, runtime in sorted(self._host.modules.items())]

    def _module(self, name: str) -> ModuleRuntime:
        runtime = self._host.modules.get(name)
        if runtime is None:
            raise NoSuchName(name=name, known=sorted(self._host.modules))
        return runtime

    async def _later(self, runtime: ModuleRuntime, now: datetime) -> int:
        """Waiting entries whose time has not come, as far as the first pages show."""
        views = await runtime.queue.entries(state="waiting", handler=None, after=0, limit=500)
        return sum(1 for view in views if view.run_at > now)


@final
class EntryWithDesk:
    """The way in for the control socket: the path, and the platform's own services beside it.

    Args:
        services: what answers the operations of each contract of the platform's.
    """

    def __init__(self, entry: Entry, services: Mapping[str, object]) -> None:
        self._entry = entry
        self._services = services
        self._ids = RandomIds()

    async def call(self, incoming: Incoming) -> Reply:
        """See `Entry.call`; the services' operations go to them."""
        service = self._services.get(incoming.operation.contract)
        if service is None:
            return await self._entry.call(incoming)
        method = getattr(service, incoming.operation.name)
        value = await method(*msgspec.structs.astuple(incoming.arguments))
        return Reply(value=value, trace=new_trace(self._ids, incoming.trace))


def with_desk(operations: Mapping[str, OperationSpec]) -> dict[str, OperationSpec]:
    """A product's operations and the desk's."""
    return {**operations, **DESK_OPERATIONS}


def _summary(module: str, view: EntryView) -> dict[str, Any]:
    return {
        "ref": f"{module}:{view.id}",
        "module": module,
        "id": view.id,
        "handler": view.handler,
        "state": view.state,
        "attempts": view.attempts,
        "run_at": view.run_at,
        "priority": view.priority,
        "lane": view.lane,
        "last_error": view.last_error,
    }


def _readable(body: bytes) -> str:
    """An envelope as indented JSON; what JSON cannot say becomes text."""
    try:
        value = msgspec.msgpack.decode(body)
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except (msgspec.DecodeError, TypeError) as error:
        return f'"{len(body)} bytes that cannot be read: {error}"'
