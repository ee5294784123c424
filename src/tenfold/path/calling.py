"""What is decided about a call between modules: whether it may be made, and under which key."""

from __future__ import annotations

import time
from typing import Protocol

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import (
    CallInsideUnitOfWorkError,
    CommandFromCommandError,
    DeadlineExceededError,
    TenfoldError,
)
from tenfold.contracts.operations import Kind
from tenfold.path.admit import decide_who
from tenfold.path.module import ModuleRuntime
from tenfold.path.operations import Operation
from tenfold.ports.unit import Message

__all__ = ["Settled", "decide_call", "decide_call_key"]


class Settled(Protocol):
    """Waits for the events that end what a command set off."""

    async def __call__(
        self, module: ModuleRuntime, names: list[str], order_key: str, tenant: str, wait_s: float
    ) -> bool:
        """True once one of them was published with this key; False when the time is up."""
        ...


def decide_call(operation: Operation, parent: Message) -> TenfoldError | None:
    """Whether a module's handler may make this call now; the error where not."""
    unit = parent.unit
    if unit is not None and unit.session is not None:
        unit.broken = CallInsideUnitOfWorkError(
            f"{parent.envelope.target} called {operation.target} after its unit of work had begun, "
            "which would hold its database while another module works. Nothing was committed. "
            "Gather first: move the call above the handler's first statement on self.db; or "
            "enqueue a job that makes it afterwards."
        )
        return unit.broken
    who = operation.who
    if who not in ("anyone", "internal"):
        refused = decide_who(operation.target, who, parent.envelope.principal, True)
        if refused is not None:
            return refused
    if time.monotonic() >= parent.deadline:
        return DeadlineExceededError(
            f"The deadline of {parent.envelope.target} passed before it called "
            f"{operation.target}. Nothing was done there."
        )
    return None


def decide_call_key(
    operation: Operation, parent: Message, wanted: str | None
) -> str | TenfoldError:
    """The key under which a handler's call of a command happens once; the error where it may not.

    Background work has a durable identity, so that its message's id makes the
    key, together with the handler (an event has many), the operation called and
    how often this handler has called it: run again, the call answers as the
    first time, even where an earlier call to another operation is now left out.
    Two calls of one operation that change places are refused, not repeated. A
    command may call commands only if it requires a key itself.
    """
    if not parent.repeatable:
        return CommandFromCommandError(
            f"{parent.envelope.target} handles events in batches and called the command "
            f"{operation.target}. Which events come together may differ when they are handled "
            "again, so nobody could tell whether the call was made before. Nothing was done. Call "
            "it from a job that this handler enqueues."
        )
    if parent.calls is None:
        parent.calls = {}
    step = parent.calls[operation.target] = parent.calls.get(operation.target, 0) + 1
    place = f"{parent.envelope.target}:{operation.target}:{step}"
    if parent.kind in (Kind.JOB, Kind.EVENT, Kind.SCHEDULE):
        return wanted or f"{parent.envelope.id}:{place}"
    required = (
        parent.kind is Kind.COMMAND
        and parent.envelope.idempotency_key is not None
        and _requires_key(parent)
    )
    if required:
        return wanted or f"{parent.envelope.idempotency_key}:{place}"
    return CommandFromCommandError(
        f"{parent.envelope.target} is a {parent.kind.value} and called the command "
        f"{operation.target}. Were it sent again, the call would happen twice. Nothing was "
        "done. Call it from a job that this handler enqueues, or declare the command with "
        'key="required".'
    )


def _requires_key(parent: Message) -> bool:
    spec: OperationSpec | None = parent.host.contract.operations.get(
        parent.envelope.target.partition(".")[2]
    )
    return spec is not None and spec.declaration.key == "required"
