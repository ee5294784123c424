"""Queue to handle: one claimed entry runs in its unit of work, once in effect."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from tenfold.contracts.errors import TenfoldError, UnknownOperationError
from tenfold.contracts.operations import Kind
from tenfold.path.background import HandlerSpec
from tenfold.path.handle import deadline_error, handle_in_unit
from tenfold.path.limit import Limit
from tenfold.path.module import ModuleRuntime, StoredEnvelope, new_trace
from tenfold.path.operations import Dropping
from tenfold.ports.records import Claimed, InboxKey
from tenfold.ports.unit import Message, Unit

__all__ = ["Delivery"]


class _Compiled:
    """One handler with what is the same for each of its entries."""

    __slots__ = ("call", "decode", "spec", "stop", "target")

    def __init__(self, module: ModuleRuntime, spec: HandlerSpec, owner: Any) -> None:
        stops = module.resources.stops
        self.spec = spec
        self.target = f"{module.name}.{spec.name}"
        self.stop = stops.handle if spec.projection is None else stops.projection
        self.decode = msgspec.msgpack.Decoder(spec.payload).decode
        method = _as_coroutine(spec.method)

        def event(payload: Any) -> Coroutine[Any, Any, None]:
            return method(owner, payload)

        def arguments(payload: Any) -> Coroutine[Any, Any, None]:
            return method(owner, *msgspec.structs.astuple(payload))

        self.call: Callable[[Any], Coroutine[Any, Any, None]] = (
            event if spec.kind is Kind.EVENT else arguments
        )


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
        self._decode = msgspec.msgpack.Decoder(StoredEnvelope).decode
        self._handlers = {
            name: _Compiled(
                module, spec, owners[spec.projection] if spec.projection else module.instance
            )
            for name, spec in module.handlers.items()
        }

    async def handle(self, entry: Claimed, fence: int) -> None:
        """Run one entry to its commit.

        Its effect, its inbox row and the look at its lease commit together, so
        that it happens once however often it is delivered, and a worker whose
        lease has passed writes nothing.

        Raises: what the handler raised; DeadlineExceededError after its time
        limit; LeaseLostError.
        """
        compiled = self._handlers.get(entry.handler)
        if compiled is None:
            raise UnknownOperationError(
                f"Module {self._module.name!r} has no handler {entry.handler!r} in this version "
                f"of its code. It has: {sorted(self._handlers)}."
            )
        spec = compiled.spec
        stored = self._decode(entry.body)
        payload = compiled.decode(stored.payload)
        message = self._message(compiled, entry, stored)
        await self._run(
            compiled,
            message,
            lambda: _unit(spec, entry, fence, message),
            lambda: compiled.call(payload),
        )

    def _message(self, compiled: _Compiled, entry: Claimed, stored: StoredEnvelope) -> Message:
        spec = compiled.spec
        trace = new_trace(self._module.resources.ids, stored.trace)
        message = Message(
            # From here on it is this handler's: its calls and errors are told by its name.
            msgspec.structs.replace(stored, trace=trace, target=compiled.target),
            spec.kind,
            self._module.name,
            time.monotonic() + spec.background.timeout_s,
            None,
        )
        message.host = self._module
        message.projection = spec.projection
        message.generation = entry.generation
        return message

    async def _run(
        self,
        compiled: _Compiled,
        message: Message,
        make_unit: Callable[[], Unit],
        begin: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Run a handler to its commit within its time limit, and count how it ended."""
        resources = self._module.resources
        timeout_s = compiled.spec.background.timeout_s
        started = time.perf_counter()
        outcome = "fault"
        limit = Limit(timeout_s)
        try:
            result = await limit.run(
                handle_in_unit(
                    message, make_unit, begin, resources.units, resources.ids, resources.stops
                )
            )
            outcome = "ok"
            if self.dropping is not None and message.unit is not None and not result.duplicate:
                await self.dropping.committed(message, None, message.unit)
        except TimeoutError as error:
            if not limit.expired():
                raise  # the handler's own, not this one
            outcome = "timeout"
            raise deadline_error(message.envelope.target, timeout_s, message) from error
        except TenfoldError:
            outcome = "error"
            raise
        finally:
            compiled.stop.observe(compiled.target, outcome, time.perf_counter() - started)


def _unit(spec: HandlerSpec, entry: Claimed, fence: int, message: Message) -> Unit:
    """An empty unit of work for one entry, which commits only under the entry's lease."""
    unit = Unit(entry.message_id, message.envelope.tenant, message.deadline)
    unit.inbox = InboxKey(
        message_id=entry.message_id, handler=entry.handler, generation=entry.generation
    )
    unit.fence = fence
    if spec.projection is not None:
        unit.projection = (spec.projection, entry.generation)
    return unit
