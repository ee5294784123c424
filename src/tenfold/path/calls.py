"""Calls: the way in for edges, and the way from one module to another in one process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import msgspec

from tenfold.contracts.envelope import OPERATOR, Envelope
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    OverloadedError,
    TenfoldError,
    UnknownOperationError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.path.admit import (
    KEY_LIFE,
    QUEUED_KEY_LIFE,
    decide_admission,
    reply_key,
)
from tenfold.path.calling import Settled, decide_call, decide_call_key
from tenfold.path.door import Door
from tenfold.path.entry import Incoming, Reply
from tenfold.path.forwarding import ask, outgoing_of, reply_of, silent_error
from tenfold.path.handle import deadline_error, decide_outcome
from tenfold.path.kept import Trail
from tenfold.path.limit import Limit, SharedTimer
from tenfold.path.limits import Allowance
from tenfold.path.module import new_trace
from tenfold.path.operations import CompiledOperation, Operation, RemoteOperation
from tenfold.path.positions import SEEN, Positions, merge_tokens
from tenfold.path.proxies import CallOptions, Proxy
from tenfold.path.shedding import Arrival
from tenfold.path.stops import Stops
from tenfold.ports.clock import Clock, Ids, text_of
from tenfold.ports.unit import CURRENT, Message

__all__ = ["Calls"]

_QUERY = Kind.QUERY  # an enumeration's attribute costs more than a name
_PATIENCE_S = 0.5
"""Beyond its time, how long a call to another process is waited for."""
_T = TypeVar("_T")
_log = logging.getLogger("tenfold.path")


class Calls:
    """Every operation of a product in this process. Implements `Entry`."""

    def __init__(
        self,
        operations: Mapping[str, Operation],
        *,
        clock: Clock,
        ids: Ids,
        stops: Stops,
        positions: Positions,
        settled: Settled,
        most_in_flight: int,
        door: Door | None = None,
    ) -> None:
        self._operations = operations
        self._by_spec = {id(op.spec): op for op in operations.values()}
        self._clock = clock
        self._ids = ids
        self._stops = stops
        self._positions = positions
        self._settled = settled
        self._most_in_flight = most_in_flight
        self._door = door
        self._timer = SharedTimer()
        self._in_flight = 0
        self._draining = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Calls from outside that have been admitted and not answered."""
        return self._in_flight

    async def drain(self, bound_s: float) -> bool:
        """Admit nothing more, and wait for what is in flight; False when the bound was reached."""
        self._draining = True
        try:
            async with asyncio.timeout(bound_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def call(self, incoming: Incoming) -> Reply:
        """Carry one call that came in along the path. See `Entry.call`."""
        operation = self._by_spec.get(id(incoming.operation))
        if operation is None:
            raise UnknownOperationError(
                f"No module of this product offers {incoming.operation.contract}."
                f"{incoming.operation.name}. Nothing was done."
            )
        started = time.perf_counter()
        timeout_s = operation.timeout_s
        if incoming.timeout_s is not None:
            timeout_s = min(timeout_s, incoming.timeout_s)
        arrival = incoming.arrival
        allowances: tuple[Allowance, ...] = ()
        if arrival is not None:
            timeout_s -= self._clock.monotonic() - arrival.at_s
        refused = self._admit(operation, incoming, timeout_s)
        door = self._door
        # What the process's own code calls, such as a mount, has been let in with its request.
        if refused is None and door is not None and not incoming.internal:
            try:
                if operation.target in door.limited and not incoming.counted:
                    allowances = await door.count(
                        operation.target, incoming.principal, incoming.tenant, incoming.address
                    )
                arrival = door.take(operation.target, incoming.tenant, arrival)
            except TenfoldError as error:
                refused = error
        self._stops.admit.observe(
            operation.target,
            "admitted" if refused is None else refused.code,
            time.perf_counter() - started,
        )
        if refused is not None:
            raise refused
        self._in_flight += 1
        self._idle.clear()
        try:
            if isinstance(operation, RemoteOperation):
                reply = await self._forward(operation, incoming, timeout_s, arrival)
            else:
                reply = await self._carry(operation, incoming, timeout_s, arrival)
        finally:
            if arrival is not None:
                arrival.leave()
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        return msgspec.structs.replace(reply, allowances=allowances) if allowances else reply

    def proxy(self, module: str, spec_name: str, names: tuple[str, ...]) -> Proxy:
        """A proxy of one module, for other modules and for code outside of any message."""
        operations = {name: self._operations[f"{module}.{name}"] for name in names}

        def caller(
            name: str, options: CallOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Awaitable[Any]:
            operation = operations[name]
            parent = CURRENT.get(None)
            if parent is None:
                return self._from_outside(operation, options, args, kwargs)
            return self._from_message(operation, parent, options, args, kwargs)

        return Proxy(spec_name, names, caller, CallOptions())

    def _admit(
        self, operation: Operation, incoming: Incoming, timeout_s: float
    ) -> TenfoldError | None:
        if self._draining:
            return OverloadedError(
                f"The product is stopping, and {operation.target} was not begun. Send it again."
            )
        queued = incoming.queued
        refused = decide_admission(
            operation.target,
            operation.spec,
            principal=incoming.principal,
            internal=incoming.internal,
            time_left_s=timeout_s,
            # What is in a queue already is delayed, and not shed.
            in_flight=0 if queued else self._in_flight,
            most_in_flight=self._most_in_flight,
            idempotency_key=incoming.idempotency_key,
        )
        if refused is None and self._door is not None and not operation.is_query and not queued:
            return self._door.full(operation.module_name, operation.target)
        return refused

    async def _carry(
        self,
        operation: CompiledOperation,
        incoming: Incoming,
        timeout_s: float,
        arrival: Arrival | None = None,
    ) -> Reply:
        ids = self._ids
        at = self._clock.now()
        trace = new_trace(ids, incoming.trace)
        envelope = Envelope(
            # Commands are told apart by when they came; of a question nothing is kept.
            id=ids.hex(128) if operation.is_query else text_of(ids.uuid()),
            kind=operation.kind,
            target=operation.target,
            payload=incoming.arguments,
            principal=incoming.principal,
            tenant=incoming.tenant,
            trace=trace,
            at=at,
            deadline=at + timedelta(seconds=timeout_s),
            idempotency_key=incoming.idempotency_key,
        )
        deadline = time.monotonic() + timeout_s
        message = Message(envelope, operation.kind, operation.module.name, deadline, None)
        message.host = operation.module
        message.decision = incoming.decision
        try:
            reply = await self._run_limited(operation, message, incoming, timeout_s, arrival)
        except TenfoldError as error:
            if isinstance(error, HandlerFaultError):
                _log.error(
                    "%s failed",
                    operation.target,
                    exc_info=error.__cause__,
                    extra={"trace_id": trace.trace_id, "operation": operation.target},
                )
            decide_outcome(error, message.effects)
            raise
        if incoming.wait_s and operation.spec.declaration.settled_by and reply.value is not None:
            return await self._wait(operation, incoming, reply)
        return reply

    async def _forward(
        self,
        operation: RemoteOperation,
        incoming: Incoming,
        timeout_s: float,
        arrival: Arrival | None,
    ) -> Reply:
        """Let the process that hosts its module carry a call that came in here.

        A command without a key gets one, so that it happens once even if a process is
        lost over it and another is asked.
        """
        trace = new_trace(self._ids, incoming.trace)
        key = incoming.idempotency_key
        if key is None and not operation.is_query:
            key = text_of(self._ids.uuid())
        outgoing = outgoing_of(operation.module_name, incoming, trace, key, timeout_s)
        if arrival is not None:
            arrival.leave()  # the process that does the work counts it, and sheds
        # The one who carries it has as long; this is for one who says nothing any more.
        patience_s = timeout_s + (incoming.wait_s or 0.0) + _PATIENCE_S
        returned = await self._limited(
            operation.target,
            operation.peer.call(outgoing),
            patience_s,
            None,
            lambda: silent_error(operation.target, patience_s, operation.is_query),
        )
        return reply_of(returned, trace, incoming.position)

    async def _run_limited(
        self,
        operation: CompiledOperation,
        message: Message,
        incoming: Incoming,
        timeout_s: float,
        arrival: Arrival | None,
    ) -> Reply:
        """Run it with the one timer that a message has which came in."""
        return await self._limited(
            operation.target,
            self._run(operation, message, incoming),
            timeout_s,
            arrival,
            lambda: deadline_error(operation.target, timeout_s, message),
        )

    async def _limited(
        self,
        target: str,
        work: Coroutine[Any, Any, _T],
        timeout_s: float,
        arrival: Arrival | None,
        late_error: Callable[[], TenfoldError],
    ) -> _T:
        """Do what one message asks for within its time.

        Where it is one of those that the process has taken on, how long it took is told.
        """
        late = failed = False
        limit = Limit(timeout_s, self._timer)
        try:
            return await limit.run(work)
        except Refusal:  # an expected no says nothing of how much this process can do
            raise
        except TimeoutError as error:
            if not limit.expired():
                failed = True
                raise
            late = True
            raise late_error() from error
        except DeadlineExceededError:
            late = True
            raise
        except BaseException:
            failed = True
            raise
        finally:
            if arrival is not None and self._door is not None and self._door.shedder is not None:
                self._door.shedder.end(target, arrival, late=late, failed=failed)

    async def _run(
        self, operation: CompiledOperation, message: Message, incoming: Incoming
    ) -> Reply:
        trace = message.envelope.trace
        if operation.is_query:
            behind = False
            if incoming.position is not None:
                behind = not await self._positions.reached(operation, incoming.position)
            positions = self._positions
            freshness = None
            if positions.has_replicas:
                freshness = await positions.freshness(incoming.position)
                message.freshness = freshness
            if incoming.position is not None:
                message.trail = Trail(incoming.position)
            value = await operation.answer(message, incoming.arguments)
            position = incoming.position
            if freshness is not None:
                position = await positions.after_read(position, freshness)
            trail = message.trail
            kept = None
            if trail is not None:
                position = merge_tokens(position, trail.shows)
                kept = trail.of(operation.target)
            return Reply(value=value, trace=trace, position=position, behind=behind, kept=kept)
        key = incoming.idempotency_key
        outcome = await operation.carry(
            message,
            incoming.arguments,
            None
            if key is None
            else reply_key(
                operation.target,
                incoming.principal,
                incoming.tenant,
                key,
                incoming.arguments,
                message.envelope.at + (QUEUED_KEY_LIFE if incoming.queued else KEY_LIFE),
            ),
        )
        return Reply(
            value=outcome.value,
            trace=trace,
            replayed=outcome.replayed,
            position=await self._positions.after_commit(
                operation.module.name, outcome.position, incoming.position
            ),
        )

    async def _wait(self, operation: CompiledOperation, incoming: Incoming, reply: Reply) -> Reply:
        """Wait for what the command set off to end, then answer with how it ended."""
        declaration = operation.spec.declaration
        module = operation.module
        order_key = str(reply.value.id)
        settled = await self._settled(
            module,
            [f"{module.name}.{event.__name__}" for event in declaration.settled_by],
            order_key,
            incoming.tenant,
            incoming.wait_s or 0,
        )
        if not settled or declaration.created is None:
            return msgspec.structs.replace(reply, settled=settled)
        read = self._operations[f"{module.name}.{declaration.created}"]
        assert isinstance(read, CompiledOperation), "it is of the same module"
        again = Incoming(
            operation=read.spec,
            arguments=read.bind((reply.value.id,), {}),
            principal=incoming.principal,
            tenant=incoming.tenant,
            internal=incoming.internal,
            trace=reply.trace,
            position=reply.position,
            # The event that ended it is known of here, and perhaps not yet on a replica.
            decision=True,
        )
        try:
            latest = await self._carry(read, again, read.timeout_s)
        except (Refusal, TenfoldError) as error:
            # The command is committed: what fails now must not read as if it were not.
            _log.warning("The outcome of a command could not be read by %s. %s", read.target, error)
            return reply
        return msgspec.structs.replace(reply, value=latest.value, settled=True)

    async def _from_outside(
        self,
        operation: Operation,
        options: CallOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        seen = SEEN.get()
        reply = await self.call(
            Incoming(
                operation=operation.spec,
                arguments=operation.bind(args, kwargs),
                principal=options.principal or OPERATOR,
                tenant=options.tenant,
                internal=True,
                idempotency_key=options.key,
                position=None if seen is None else seen.token,
            )
        )
        if seen is not None:
            seen.add(reply.position)
        return reply.value

    async def _from_message(
        self,
        operation: Operation,
        parent: Message,
        options: CallOptions,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """A call of one module to another: the same path, less the bytes, task and timer."""
        refused = decide_call(operation, parent)
        if refused is not None:
            raise refused
        arguments = operation.bind(args, kwargs)
        if isinstance(operation, RemoteOperation):
            return await ask(operation, parent, options, arguments, self._ids)
        sender = parent.envelope
        module = operation.module
        envelope = Envelope(
            id=self._ids.hex(128),
            kind=operation.kind,
            target=operation.target,
            payload=arguments,
            principal=sender.principal,
            tenant=sender.tenant,
            trace=new_trace(self._ids, sender.trace),
            at=sender.at,
            deadline=sender.deadline,
            cause=sender.id,
        )
        message = Message(envelope, operation.kind, module.name, parent.deadline, None)
        message.host = module
        if operation.is_query:
            message.freshness = parent.freshness
            message.decision = options.decision and (parent.decision or parent.kind is not _QUERY)
            trail = parent.trail
            if trail is not None:
                message.trail = trail.on(operation)
            value = await operation.answer(message, arguments)
            if trail is None:
                parent.trail = message.trail
            return value
        key = decide_call_key(operation, parent, options.key)
        if isinstance(key, TenfoldError):
            raise key
        message.envelope = msgspec.structs.replace(envelope, idempotency_key=key)
        life = KEY_LIFE if parent.kind is Kind.COMMAND else QUEUED_KEY_LIFE
        parent.effects = True
        outcome = await operation.carry(
            message,
            arguments,
            reply_key(
                operation.target,
                sender.principal,
                sender.tenant,
                key,
                arguments,
                self._clock.now() + life,
            ),
        )
        return outcome.value
