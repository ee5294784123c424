"""Queue to handle: one claimed entry runs in its unit of work, once in effect.

Most handlers hand over what they do and wait for nothing before, so an entry is
begun at once, by whoever has it, and becomes something to be awaited only where
there is something to wait for. Of its envelope only the payload is read; the
rest is decoded when somebody asks for it.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import copy_context
from typing import Any

import msgspec

from tenfold.contracts.envelope import Envelope
from tenfold.contracts.errors import TenfoldError, UnknownOperationError
from tenfold.contracts.operations import Kind
from tenfold.path.background import HandlerSpec
from tenfold.path.handle import Begun, deadline_error, handle_in_unit
from tenfold.path.limit import Limit, SharedTimer
from tenfold.path.module import ModuleRuntime, StoredEnvelope, new_trace
from tenfold.path.operations import Dropping
from tenfold.ports.records import Claimed, InboxKey
from tenfold.ports.unit import CURRENT, Message, Unit

__all__ = ["Delivery"]

_decode_envelope = msgspec.msgpack.Decoder(StoredEnvelope).decode


class _Compiled:
    """One handler with what is the same for each of its entries."""

    __slots__ = (
        "call",
        "decode",
        "kind",
        "module",
        "observe",
        "projection",
        "repeatable",
        "target",
        "timeout_s",
    )

    def __init__(self, module: ModuleRuntime, spec: HandlerSpec, owner: Any) -> None:
        stops = module.resources.stops
        self.module = module
        self.kind = spec.kind
        self.projection = spec.projection
        self.repeatable = spec.batch is None
        self.target = f"{module.name}.{spec.name}"
        self.timeout_s = spec.background.timeout_s
        self.observe = (stops.handle if spec.projection is None else stops.projection).observe
        # What a handler needs of its entry's body; the rest is skipped, not decoded.
        sent = msgspec.defstruct("Sent", [("payload", spec.payload), ("tenant", str)], frozen=True)
        self.decode: Callable[[bytes], Any] = msgspec.msgpack.Decoder(sent).decode
        method = _as_coroutine(spec.method)

        def event(payload: Any) -> Coroutine[Any, Any, None]:
            # One that a batch gave to the queue comes as a batch of one.
            return method(owner, payload if spec.batch is None else [payload])

        def arguments(payload: Any) -> Coroutine[Any, Any, None]:
            return method(owner, *msgspec.structs.astuple(payload))

        self.call: Callable[[Any], Coroutine[Any, Any, None]] = (
            event if spec.kind is Kind.EVENT else arguments
        )


class EntryMessage(Message):
    """The message of a claimed entry, whose envelope and unit of work are made when asked for.

    Its envelope is the handler's: its calls and errors are told by its name.
    """

    __slots__ = ("_compiled", "_entry", "_fence", "_tenant", "ended", "has_unit")

    def __init__(
        self, compiled: _Compiled, entry: Claimed, fence: int, tenant: str, deadline: float
    ) -> None:
        # Not `super().__init__`: it is made for each entry, and `envelope` and `unit` stay unset.
        self.kind = compiled.kind
        self.module = compiled.module.name
        self.deadline = deadline
        self.calls = None
        self.effects = self.decision = False
        self.freshness = None
        self.trail = None
        self.projection = compiled.projection
        self.generation = entry.generation
        self.host = compiled.module
        self.has_unit = False
        self.ended = False
        """Whether the handler has ended without a unit of work, so that one is closed by now."""
        self._compiled = compiled
        self._entry = entry
        self._fence = fence
        self._tenant = tenant

    def __getattr__(self, name: str) -> Any:
        """What was left unset, where it is asked for the first time."""
        if name == "unit":
            self.has_unit = True
            self.unit = self.make_unit()
            self.unit.closed = self.ended
            return self.unit
        if name != "envelope":
            raise AttributeError(f"A message has no {name!r}.")
        compiled = self._compiled
        stored = _decode_envelope(self._entry.body)
        trace = new_trace(compiled.module.resources.ids, stored.trace)
        self.envelope: Envelope = msgspec.structs.replace(
            stored, trace=trace, target=compiled.target
        )
        return self.envelope

    @property
    def repeatable(self) -> bool:
        """See `Message.repeatable`: not for a handler of batches, whichever way it comes."""
        return self._compiled.repeatable

    def end(self) -> bool:
        """Close the unit of work, if nothing is to be committed; whether that is so."""
        if self.has_unit:
            unit = self.unit
            if unit is None or unit.must_commit:
                return False
            unit.closed = True
        self.ended = True
        return True

    def make_unit(self) -> Unit:
        """An empty unit of work, which commits only under the entry's lease."""
        entry = self._entry
        unit = Unit(entry.message_id, self._tenant, self.deadline)
        unit.inbox = InboxKey(entry.message_id, entry.handler, entry.generation)
        unit.fence = self._fence
        if self.projection is not None:
            unit.projection = (self.projection, entry.generation)
        return unit


def _as_coroutine(
    method: Callable[..., Awaitable[None]],
) -> Callable[..., Coroutine[Any, Any, None]]:
    """A handler that may be stepped, whatever awaitable thing it gives."""
    if inspect.iscoroutinefunction(method):
        return method

    async def call(*args: Any) -> None:
        await method(*args)

    return call


class Delivery:
    """Runs the claimed entries of one module's queue."""

    def __init__(self, module: ModuleRuntime, owners: dict[str, Any]) -> None:
        """`owners` has the instance of each projection by its name."""
        self._module = module
        self.dropping: Dropping | None = None
        """Which kept answers its commits drop; None where they drop none."""
        self._timer = SharedTimer()
        self._handlers = {
            name: _Compiled(
                module, spec, owners[spec.projection] if spec.projection else module.instance
            )
            for name, spec in module.handlers.items()
        }

    async def handle(self, entry: Claimed, fence: int) -> None:
        """Run one entry to its commit. See `begin`."""
        rest = self.begin(entry, fence)
        if rest is not None:
            await rest

    def begin(self, entry: Claimed, fence: int) -> Coroutine[Any, Any, None] | None:
        """Begin one entry: None where it has ended well, else what runs it to its commit.

        Its effect, its inbox row and the look at its lease commit together, so
        that it happens once however often it is delivered, and a worker whose
        lease has passed writes nothing. What is returned has to be awaited, in
        the task that called.

        Raises: what the handler raised; DeadlineExceededError after its time
        limit; LeaseLostError.
        """
        compiled = self._handlers.get(entry.handler)
        if compiled is None:
            raise UnknownOperationError(
                f"Module {self._module.name!r} has no handler {entry.handler!r} in this version "
                f"of its code. It has: {sorted(self._handlers)}."
            )
        started = time.monotonic()
        sent = compiled.decode(entry.body)
        deadline = started + compiled.timeout_s
        message = EntryMessage(compiled, entry, fence, sent.tenant, deadline)
        # What `begin_handler` does, without a word more where nothing is left to do.
        context = copy_context()
        context.run(CURRENT.set, message)
        handler = compiled.call(sent.payload)
        try:
            begun = Begun(context, handler, context.run(handler.send, None), None)
        except StopIteration as stop:
            if self.dropping is None and message.end():
                compiled.observe(compiled.target, "ok", time.monotonic() - started)
                return None
            begun = Begun(context, handler, None, stop)
        except BaseException as error:
            begun = Begun(context, handler, None, error)
        return self._run(compiled, message, lambda: compiled.call(sent.payload), begun, started)

    async def _run(
        self,
        compiled: _Compiled,
        message: EntryMessage,
        begin: Callable[[], Coroutine[Any, Any, None]],
        begun: Begun,
        started: float,
    ) -> None:
        """Run a handler to its commit within its time limit, and count how it ended."""
        resources = self._module.resources
        outcome = "fault"
        limit = Limit(message.deadline - time.monotonic(), self._timer)
        try:
            result = await limit.run(
                handle_in_unit(
                    message,
                    message.make_unit,
                    begin,
                    resources.units,
                    resources.ids,
                    resources.stops,
                    begun,
                )
            )
            outcome = "ok"
            if self.dropping is not None and message.unit is not None and not result.duplicate:
                await self.dropping.committed(message, None, message.unit)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the handler's own, not this one
            outcome = "timeout"
            raise deadline_error(message.envelope.target, compiled.timeout_s, message) from error
        except TenfoldError:
            outcome = "error"
            raise
        finally:
            compiled.observe(compiled.target, outcome, time.monotonic() - started)
