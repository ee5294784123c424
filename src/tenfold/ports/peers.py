"""Peers: what answers for the modules that live in other processes."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import OPERATOR, Principal, TraceContext
from tenfold.contracts.structs import Struct

__all__ = ["Outgoing", "Peer", "Returned"]


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
