"""How an edge hands a message to the path, and what it gets back."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import Principal, TraceContext
from tenfold.contracts.structs import Struct
from tenfold.path.kept import Shown
from tenfold.path.limits import Allowance
from tenfold.path.shedding import Arrival

__all__ = ["Entry", "Incoming", "Reply"]


class Incoming(Struct):
    """One call as an edge read it: validated arguments, and who asks for what.

    `internal` is true only for callers inside the product's own walls (modules,
    the control socket). `timeout_s` shortens the operation's own limit, never
    lengthens it. `position` is the token of an earlier `Reply`; `wait_s` is how
    long the caller would wait for the outcome of what a command sets off.
    `address` is the client's, for limits that count by it. `arrival` is set where
    the edge took the call on before it had read it; whoever made it ends it.
    `counted`, `decision` and `queued` go with a call from another process: see `Outgoing`.
    """

    operation: OperationSpec
    arguments: msgspec.Struct
    principal: Principal
    tenant: str = "main"
    internal: bool = False
    trace: TraceContext | None = None
    idempotency_key: str | None = None
    timeout_s: float | None = None
    position: str | None = None
    wait_s: float | None = None
    address: str | None = None
    arrival: Arrival | None = None
    counted: bool = False
    decision: bool = False
    queued: bool = False


class Reply(Struct):
    """What the path answers.

    `value` is what the contract promises. `replayed` says that it was stored
    under the idempotency key. `position` is a token for reading one's own
    writes; `behind` is true where a projection had not reached the one that was sent.
    `settled` is true where the caller waited and the outcome came in time.
    `allowances` tell where the caller stands with the rate limits that counted the call.
    `kept` is set where the answer is one that the cache keeps.
    """

    value: Any
    trace: TraceContext
    replayed: bool = False
    position: str | None = None
    settled: bool = False
    behind: bool = False
    allowances: tuple[Allowance, ...] = ()
    kept: Shown | None = None


class Entry(Protocol):
    """The way in: admit, handle, unit of work."""

    async def call(self, incoming: Incoming) -> Reply:
        """Carry one call along the path.

        Raises: the operation's refusals; TenfoldError with its outcome.
        """
        ...
