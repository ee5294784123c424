"""A module as it runs: its operations, handlers, database and records, bound together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from tenfold.contracts.contract import ContractSpec
from tenfold.contracts.envelope import Envelope, TraceContext
from tenfold.contracts.errors import (
    ContractError,
    InvalidArgumentsError,
    OutOfUnitOfWorkError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Event
from tenfold.path.arguments import payload_validator
from tenfold.path.background import HandlerSpec
from tenfold.path.declare import EnqueueOptions, Job
from tenfold.path.stops import Stops
from tenfold.path.turns import Turns
from tenfold.ports.clock import Clock, Ids, text_of
from tenfold.ports.outbox import Outbox, Replies
from tenfold.ports.projections import Generations
from tenfold.ports.queue import Queue, QueueDesk
from tenfold.ports.records import EventRecord, QueueEntry
from tenfold.ports.unit import Message, Unit, Units

__all__ = ["ModuleRuntime", "Resources", "StoredEnvelope", "new_trace"]


class StoredEnvelope(Envelope):
    """An envelope at rest: its payload stays encoded until its handler is known."""

    payload: msgspec.Raw


class LogAndReplies(Outbox, Replies, Protocol):
    """The outbox and the stored replies of one module."""


class QueueAndDesk(Queue, QueueDesk, Protocol):
    """The queue of one module, for workers and for people."""


class Resources:
    """What the platform hands to a module: its store's ports, the clock and the stops."""

    def __init__(
        self,
        *,
        units: Units,
        log: LogAndReplies,
        queue: QueueAndDesk,
        generations: Generations,
        clock: Clock,
        ids: Ids,
        stops: Stops,
    ) -> None:
        self.units = units
        self.log = log
        self.queue = queue
        self.generations = generations
        self.clock = clock
        self.ids = ids
        self.stops = stops


class ModuleRuntime:
    """One module of a running product."""

    def __init__(
        self,
        name: str,
        spec: ContractSpec,
        handlers: list[HandlerSpec],
        resources: Resources,
        instance: Any,
    ) -> None:
        self.name = name
        self.contract = spec
        self.handlers = {handler.name: handler for handler in handlers}
        self.resources = resources
        self.instance = instance
        self.clock = resources.clock
        self.ids = resources.ids
        self.outbox = resources.log
        self.queue = resources.queue
        self.generations = resources.generations
        self.reruns = Turns()
        """Where handlers that are begun again wait for each other, by their targets."""
        self.drops: Any = None
        """What drops kept answers; None where nothing is kept."""
        self._encode = msgspec.msgpack.Encoder().encode
        self._events: dict[type, tuple[str, Callable[[Any], Any]]] = {
            event: (f"{name}.{short}", payload_validator(f"{name}.{short}", event))
            for short, event in spec.events.items()
        }
        self._jobs: dict[str, Callable[[Any], Any]] = {}

    def new_envelope(
        self,
        cause: Message,
        kind: Kind,
        target: str,
        payload: Any,
        *,
        order_key: str | None = None,
        version: int = 1,
    ) -> Envelope:
        """An envelope for what a message causes: who acted goes with it, its deadline does not."""
        sender = cause.envelope
        return Envelope(
            id=text_of(self.ids.uuid()),
            kind=kind,
            target=target,
            payload=payload,
            principal=sender.principal,
            tenant=sender.tenant,
            trace=sender.trace,
            at=self.clock.now(),
            order_key=order_key,
            cause=sender.id,
            version=version,
        )

    def publish(self, message: Message, event: Event) -> None:
        """Add an event to the unit of work of a message. See `tenfold.publish`."""
        unit = self._unit_for(message, "publish an event")
        known = self._events.get(type(event))
        if known is None:
            raise ContractError(
                f"Module {self.name!r} published {type(event).__name__}, which its contract file "
                f"does not declare. Declare it beside {self.contract.name}, or let the module "
                "publish that owns it."
            )
        name, validate = known
        started = time.perf_counter()
        event = validate(event)
        key = event.order_key_field
        order_key = None if key is None else str(getattr(event, key))
        envelope = self.new_envelope(
            message,
            Kind.EVENT,
            name,
            event,
            order_key=order_key,
            version=event.schema_version,
        )
        unit.events.append(
            EventRecord(
                message_id=envelope.id,
                name=name,
                tenant=envelope.tenant,
                order_key=order_key,
                at=envelope.at,
                body=self._encode(envelope),
            )
        )
        self.resources.stops.outbox.observe(name, "ok", time.perf_counter() - started)

    def enqueue(
        self,
        message: Message,
        job: Job[...],
        options: EnqueueOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> str:
        """Add a job to the unit of work of a message; returns its id. See `BoundJob.enqueue`."""
        unit = self._unit_for(message, "enqueue a job")
        spec = self.handlers.get(job.name)
        if spec is None or spec.kind is not Kind.JOB or spec.method is not job.method:
            raise ContractError(
                f"{job.name!r} is no job of module {self.name!r}. A module enqueues its own jobs; "
                "publish an event, or call a command of the other module from a job."
            )
        payload = self._bind_job(spec, args, kwargs)
        lane = options.order_key
        envelope = self.new_envelope(
            message, Kind.JOB, f"{self.name}.{spec.name}", payload, order_key=lane
        )
        priority = spec.background.priority if options.priority is None else options.priority
        if not -100 <= priority <= 100:
            raise InvalidArgumentsError(
                f"priority={priority} is outside -100 to 100.", field="priority"
            )
        unit.entries.append(
            QueueEntry(
                message_id=envelope.id,
                handler=spec.name,
                tenant=envelope.tenant,
                body=self._encode(envelope),
                lane=None if lane is None else f"{spec.name}:1:{envelope.tenant}:{lane}",
                priority=priority,
                run_at=options.due(self.clock.now()),
                unique_key=options.unique,
            )
        )
        return envelope.id

    def _bind_job(
        self, spec: HandlerSpec, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> msgspec.Struct:
        names = spec.payload.__struct_fields__
        target = f"{self.name}.{spec.name}"
        if len(args) > len(names):
            raise InvalidArgumentsError(
                f"The job {target} takes {len(names)} arguments and got {len(args)}."
            )
        validate = self._jobs.get(spec.name)
        if validate is None:
            validate = self._jobs[spec.name] = payload_validator(target, spec.payload)
        values = dict(zip(names, args, strict=False))
        for name in kwargs:
            if name in values:
                raise InvalidArgumentsError(f"The job {target} got {name!r} twice.")
            if name not in names:
                raise InvalidArgumentsError(
                    f"The job {target} has no argument {name!r}. It takes {list(names)}."
                )
        values.update(kwargs)
        bound: msgspec.Struct = validate(values)
        return bound

    def _unit_for(self, message: Message, what: str) -> Unit:
        if message.unit is None:
            raise OutOfUnitOfWorkError(
                f"{message.envelope.target} tried to {what}, but a {message.kind.value} has no "
                "unit of work. Do it in a command, job, schedule or subscription."
            )
        if message.unit.closed:
            raise OutOfUnitOfWorkError(
                f"A task of {message.envelope.target} tried to {what} after its unit of work had "
                "ended, so that it would have been lost. Await the task in the handler."
            )
        if message.projection is not None:
            raise OutOfUnitOfWorkError(
                f"The projection {message.projection!r} tried to {what}, which would happen again "
                "at each rebuild. Do it in a subscription of the module."
            )
        return message.unit


def new_trace(ids: Ids, parent: TraceContext | None) -> TraceContext:
    """A new span: in its parent's trace, or in a new one."""
    if parent is None:
        return TraceContext(trace_id=ids.hex(128), span_id=ids.hex(64))
    return TraceContext(trace_id=parent.trace_id, span_id=ids.hex(64), sampled=parent.sampled)
