"""Peers: what answers for the modules that live in other processes."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import OPERATOR, Principal, TraceContext
from tenfold.contracts.structs import Struct

__all__ = ["OperationStatistics", "Outgoing", "Peer", "Returned", "ServiceStatistics"]


class Outgoing(Struct):
    """One call on its way to another process.

    `outside` is true for one that came from outside the product's walls, and was
    counted by the limits where it came in. `decision` asks for what is true now, past
    every replica and cache. `queued` says that background work calls, whose key is
    remembered for as long as that may run again. For the rest see `Incoming`.
    """

    operation: OperationSpec
    arguments: msgspec.Struct
    module: str = ""
    """The one that offers it; empty where the other end knows it by its contract."""
    principal: Principal = OPERATOR
    tenant: str = "main"
    key: str | None = None
    timeout_s: float | None = None
    trace: TraceContext | None = None
    position: str | None = None
    wait_s: float | None = None
    outside: bool = False
    decision: bool = False
    queued: bool = False


class Returned(Struct):
    """What came back. `kept` is for the edge, encoded; for the rest see `Reply`."""

    value: Any
    position: str | None = None
    replayed: bool = False
    settled: bool = False
    behind: bool = False
    kept: bytes | None = None


class Peer(Protocol):
    """Another process, or a service of several."""

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call there, and wait for its answer.

        Raises: the operation's refusals; TenfoldError with its outcome:
            PeerUnavailableError, PeerLostError and FrameError besides what was raised there.
        """
        ...


class OperationStatistics(Struct):
    """What became of the calls of one operation since the start: how many, by outcome.

    `circuit` is `closed`, `open` or `half_open`.
    """

    target: str
    outcomes: dict[str, int]
    circuit: str


class ServiceStatistics(Struct):
    """What this process has seen of one service, and holds of it now.

    `endpoints` are the processes that it is connected to: `well`, `returning`, and `out`, those
    left alone for a while. `retries` and `hedges` are calls that were sent a second time;
    `unbudgeted` those that were not, because too many had been.
    """

    service: str
    outstanding: int
    endpoints: dict[str, int]
    retries: int
    hedges: int
    unbudgeted: int
    operations: tuple[OperationStatistics, ...]
