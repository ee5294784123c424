"""What the HTTP edge is given: its limits, and the product that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import Principal
from tenfold.contracts.structs import Struct
from tenfold.edges.http.asgi import ASGIApp, Scope
from tenfold.path.door import Door
from tenfold.path.stops import Stop
from tenfold.ports.clock import Clock, Ids, RandomIds, SystemClock

__all__ = ["HttpProduct", "HttpSettings", "ReadinessState"]


class ReadinessState(Enum):
    """Whether new requests should be sent here. Only `READY` answers 200."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


class HttpSettings(Struct):
    """The limits of the edge.

    `max_concurrent` bounds requests in progress, and again those at mounts; one
    more is answered 503 at once. `body_timeout_s` bounds the time from the first
    to the last byte of a body. `max_depth` bounds the nesting of arguments whose type does not.
    `allowed_origins` are those that browsers may call from (`"*"`: any).
    `allowed_hosts` are the host names that the product answers to, without
    port; empty means any. A product that trusts its callers for where they
    come from, as on loopback, must name them, or a web page can reach it
    through a name of its own that resolves to this machine. `position_cookies`
    gives browsers their position token in a cookie, so that they read their own
    writes where several servers answer. `trusted_proxies` are the networks of
    those who are believed, in `forwarded_header`, about a client's address.
    """

    max_body_bytes: int = 1_048_576
    max_target_bytes: int = 8_192
    max_header_bytes: int = 32_768
    max_headers: int = 100
    max_depth: int = 64
    max_concurrent: int = 1_000
    body_timeout_s: float = 10.0
    max_wait_s: float = 60.0
    disconnect_check_s: float = 0.2
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    position_cookies: bool = False
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: str = "x-forwarded-for"


class HttpProduct(Struct):
    """The product that the edge serves.

    `operations` maps `module.operation` to what its contract says of it; those
    without a route are left out of the edge. `mounts` maps a path prefix to any
    ASGI application; `"/"` gets what nothing else answers. `edge` counts
    requests by operation. `door` turns away what is too much.
    """

    name: str
    version: str
    operations: Mapping[str, OperationSpec]
    principal_of: Callable[[Scope], Principal]
    readiness: Callable[[], ReadinessState]
    metrics: Callable[[], Awaitable[bytes]]
    settings: HttpSettings = HttpSettings()
    mounts: Mapping[str, ASGIApp] = {}
    description: str = ""
    tenant: str = "main"
    door: Door | None = None
    edge: Stop = msgspec.field(default_factory=lambda: Stop("edge"))
    clock: Clock = msgspec.field(default_factory=SystemClock)
    ids: Ids = msgspec.field(default_factory=RandomIds)

    def routed(self) -> dict[str, OperationSpec]:
        """The operations that have a route, by their full name."""
        return {
            name: spec
            for name, spec in self.operations.items()
            if spec.declaration.path is not None
        }
