"""Operations, compiled at start: what one does not use costs it nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from tenfold.contracts.contract import ContractSpec, OperationSpec
from tenfold.contracts.errors import InvalidResultError, TenfoldError
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.path.admit import decide_replay
from tenfold.path.arguments import argument_binder, result_checker
from tenfold.path.handle import as_fault, handle_in_unit, undeclared
from tenfold.path.module import ModuleRuntime
from tenfold.path.turns import Turns
from tenfold.ports.peers import Peer
from tenfold.ports.records import ReplyKey, StoredReply
from tenfold.ports.unit import CURRENT, Message, Unit

__all__ = [
    "Answers",
    "CompiledOperation",
    "Dropping",
    "Operation",
    "Outcome",
    "RemoteOperation",
    "compile_operations",
    "compile_remote",
]

_astuple = msgspec.structs.astuple


class Outcome(msgspec.Struct, frozen=True):
    """What a command answered; `replayed` where it was stored under its key."""

    value: Any
    position: int
    replayed: bool = False


class Answers(Protocol):
    """Answers a query from what is kept, or keeps what its handler answers."""

    async def answer(self, message: Message, arguments: msgspec.Struct) -> Any:
        """The answer to one question that is not asked for a decision."""
        ...


class Dropping(Protocol):
    """Drops the kept answers that a command makes wrong."""

    def prepare(self, message: Message, arguments: msgspec.Struct, unit: Unit) -> None:
        """Hand over to the unit of work what drops them, should this process die."""
        ...

    async def committed(self, message: Message, arguments: Any, unit: Unit) -> None:
        """Drop them now, within a bound. Never raises but for a cancellation."""
        ...


class _Declared:
    """One operation of one module, as far as its contract says: wherever it is hosted."""

    __slots__ = ("bind", "is_query", "kind", "module_name", "spec", "target", "timeout_s", "who")

    def __init__(self, module: str, spec: OperationSpec) -> None:
        self.module_name = module
        self.spec = spec
        self.target = f"{module}.{spec.name}"
        self.who = spec.declaration.who
        self.timeout_s = spec.declaration.timeout_s
        self.kind = spec.kind
        self.is_query = spec.kind is Kind.QUERY
        self.bind = argument_binder(spec)


class RemoteOperation(_Declared):
    """One operation of a module that another process hosts, which `peer` reaches."""

    __slots__ = ("peer",)

    def __init__(self, module: str, spec: OperationSpec, peer: Peer) -> None:
        super().__init__(module, spec)
        self.peer = peer


class CompiledOperation(_Declared):
    """One operation of one module, bound to its handler."""

    __slots__ = (
        "_check",
        "_declared",
        "_decode_reply",
        "_encode_reply",
        "_method",
        "_observe",
        "_turns",
        "cached",
        "dropping",
        "module",
    )

    def __init__(self, module: ModuleRuntime, spec: OperationSpec) -> None:
        super().__init__(module.name, spec)
        self.module = module
        self._method: Callable[..., Awaitable[Any]] = getattr(module.instance, spec.name)
        self._check = result_checker(spec)
        self._observe = module.resources.stops.handle.observe
        self._declared = frozenset(spec.declaration.raises)
        self._encode_reply = msgspec.msgpack.Encoder().encode
        self._decode_reply = msgspec.msgpack.Decoder(spec.result).decode
        self.cached: Answers | None = None
        """Where its answers are kept; None where they are not."""
        self.dropping: Dropping | None = None
        """Which kept answers its commits drop; None where they drop none."""
        self._turns = Turns() if spec.declaration.turn is not None else None

    async def answer(
        self, message: Message, arguments: msgspec.Struct, *, past: bool = False
    ) -> Any:
        """Run a query's handler. It has no unit of work, no task and no timer of its own.

        A query whose answers are kept is answered from there, but for a decision.

        Args:
            past: run it, whatever is kept.
        """
        if self.cached is not None and not past and not message.decision:
            return await self.cached.answer(message, arguments)
        token = CURRENT.set(message)
        started = time.perf_counter()
        outcome = "ok"
        try:
            return self._check(await self._method(*_astuple(arguments)))
        except BaseException as error:
            outcome = self._classify(error)
            seen = self._seen(error)
            if seen is error:
                raise
            raise seen from error
        finally:
            CURRENT.reset(token)
            self._observe(self.target, outcome, time.perf_counter() - started)

    async def carry(
        self, message: Message, arguments: msgspec.Struct, key: ReplyKey | None
    ) -> Outcome:
        """Run a command's handler in its unit of work; with a key, once."""
        if key is not None:
            stored = await self.module.outbox.find(key)
            if stored is not None:
                return self._replay(key, stored)
        if self._turns is None:
            return await self._carry(message, arguments, key)
        value = getattr(arguments, self.spec.declaration.turn or "")
        async with self._turns.take((message.envelope.tenant, self._encode_reply(value))):
            return await self._carry(message, arguments, key)

    async def _carry(
        self, message: Message, arguments: msgspec.Struct, key: ReplyKey | None
    ) -> Outcome:
        resources = self.module.resources
        values = _astuple(arguments)

        def make_unit() -> Unit:
            unit = Unit(message.envelope.id, message.envelope.tenant, message.deadline)
            if key is not None:
                unit.reply_key = key
                unit.encode_reply = self._encode_kept
            if self.dropping is not None:
                self.dropping.prepare(message, arguments, unit)
            return unit

        async def begin() -> Any:
            # Checked inside the unit of work, so that a wrong result leaves nothing behind.
            return self._check(await self._method(*values))

        started = time.perf_counter()
        outcome = "ok"
        try:
            result = await handle_in_unit(
                message, make_unit, begin, resources.units, resources.ids, resources.stops
            )
        except BaseException as error:
            outcome = self._classify(error)
            seen = self._seen(error)
            if seen is error:
                raise
            raise seen from error
        finally:
            self._observe(self.target, outcome, time.perf_counter() - started)
        if result.replay is not None and key is not None:
            return self._replay(key, result.replay)
        if self.dropping is not None and message.unit is not None:
            await self.dropping.committed(message, arguments, message.unit)
        return Outcome(result.value, result.position)

    def _encode_kept(self, value: Any) -> bytes:
        """A reply as it is stored; one that could not be read again leaves nothing behind."""
        body = self._encode_reply(value)
        try:
            self._decode_reply(body)
        except msgspec.ValidationError as error:
            raise InvalidResultError(
                f"The handler of {self.target} returned what its contract does not allow: {error}. "
                "Nothing was committed. Mend the handler or the contract."
            ) from error
        return body

    def _replay(self, key: ReplyKey, stored: StoredReply) -> Outcome:
        refused = decide_replay(key, stored, self.target)
        if refused is not None:
            raise refused
        return Outcome(self._decode_reply(stored.body), stored.position, replayed=True)

    def _classify(self, error: BaseException) -> str:
        if isinstance(error, Refusal):
            return "refused" if type(error) in self._declared else "fault"
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        return "error" if isinstance(error, TenfoldError) else "fault"

    def _seen(self, error: BaseException) -> BaseException:
        """The error as the caller may see it: refusals and known errors as they are."""
        if isinstance(error, Refusal):
            return error if type(error) in self._declared else undeclared(self.spec, error)
        if isinstance(error, SystemExit):  # a handler's wish to end must not end the product
            return as_fault(self.target, error)
        if isinstance(error, TenfoldError) or not isinstance(error, Exception):
            return error
        return as_fault(self.target, error)


Operation = CompiledOperation | RemoteOperation


def compile_operations(module: ModuleRuntime) -> dict[str, CompiledOperation]:
    """Compile every operation of a module, by name."""
    return {
        name: CompiledOperation(module, spec) for name, spec in module.contract.operations.items()
    }


def compile_remote(
    peers: Mapping[str, Peer], contracts: Mapping[str, ContractSpec]
) -> dict[str, RemoteOperation]:
    """Every operation of modules that others answer for, by `module.operation`.

    Args:
        contracts: by module, those of `peers` among them.
    """
    return {
        f"{name}.{spec.name}": RemoteOperation(name, spec, peer)
        for name, peer in peers.items()
        for spec in contracts[name].operations.values()
    }
