"""The tables of one topology: where it listens, what it runs on, how much it takes at once."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.ports.records import BACKLOG_LIMIT

__all__ = [
    "DatabaseSettings",
    "HttpLimits",
    "ProcessSettings",
    "QueueLimits",
    "ServiceSettings",
    "TlsSettings",
]

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]


class HttpLimits(Struct):
    """Where the product listens, and what it takes from one caller: `[topologies.X.http]`.

    `max_concurrent` bounds requests in progress, and again those at mounts;
    `max_depth` bounds the nesting of arguments whose type does not.
    `allowed_origins` are those that browsers may call from (CORS; `"*"` is any);
    `allowed_hosts` are the host names that are answered to, beside those of this
    machine. `drain_s` bounds how long a stop waits for the work in hand.
    `trusted_proxies` are the networks of those who are believed, in
    `forwarded_header`, about a client's address; `unix` stands for a socket file.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    max_body_bytes: _Positive = 1_048_576
    max_target_bytes: _Positive = 8_192
    max_header_bytes: _Positive = 32_768
    max_headers: _Positive = 100
    max_depth: _Positive = 64
    max_concurrent: _Positive = 1_000
    header_timeout_s: _Seconds = 10.0
    body_timeout_s: _Seconds = 10.0
    max_wait_s: _Seconds = 60.0
    keep_alive_s: _Seconds = 5.0
    drain_s: _Seconds = 10.0
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    forwarded_header: Literal["x-forwarded-for", "forwarded"] = "x-forwarded-for"


class ServiceSettings(Struct):
    """Modules that processes of their own host: `[topologies.X.services.NAME]`.

    `replicas` processes answer the calls of the gateway and of other services, and
    `workers` do the background work of these modules; without workers the replicas
    do both. `max_calls` bounds the calls of one process that wait for this service, so that
    one that hangs does not take all that its callers can do at once.

    Its processes on one machine share a Unix socket; with `listen` they take calls at that
    address, over TLS. `addresses` are where callers find the service, on this machine and
    others; `dns://NAME:PORT` stands for every address of a name. With `replicas = 0` it
    answers on other machines alone.
    """

    modules: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    replicas: Annotated[int, msgspec.Meta(ge=0, le=256)] = 1
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    max_calls: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 500
    listen: str = ""
    addresses: tuple[str, ...] = ()


class TlsSettings(Struct):
    """How the processes of this machine show who they are: `[topologies.X.tls]`.

    Paths of PEM files, relative to the topology file: a certificate and its key, and the
    certificate of the authority that signs those of all machines of the product and of
    nobody else. The certificate's DNS names are the services of this machine, and `gateway`
    where it has gateways.
    """

    certificate: str = ""
    key: str = ""
    authority: str = ""


class QueueLimits(Struct):
    """How much background work one module takes at once: `[topologies.X.queue]`.

    `max_backlog` is by module: while so many entries are due in its queue,
    commands that would add to it are turned away.
    """

    batch: Annotated[int, msgspec.Meta(ge=1, le=500)] = 200
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 32
    max_backlog: dict[str, Annotated[int, msgspec.Meta(ge=1, le=BACKLOG_LIMIT)]] = msgspec.field(
        default_factory=dict
    )


class DatabaseSettings(Struct):
    """What the modules keep their data in: `[topologies.X.database]`.

    `kind` is `sqlite` (one file for each module) or `postgres` (one schema for
    each); where it is not said, the topologies `growth` and `scale` have
    PostgreSQL and others SQLite. The rest is PostgreSQL's. With an empty `url`
    a server is found or started on this machine. `replicas` are URLs of read
    replicas; `local_replicas` is how many are started beside a server that is.

    A process holds at most `pool` connections to the primary and as many to
    each replica. A query waits `replica_wait_s` for a replica that has not
    replayed what its caller has seen, then goes to the primary; a replica that
    is `max_lag_s` behind is left out. `pooler = "transaction"` is for a
    pgbouncer in transaction mode between here and the server; what needs a
    session of its own (migrations, the lead, notices) then goes to `direct_url`,
    the server itself, on a few connections.
    """

    kind: Literal["sqlite", "postgres"] | None = None
    url: str = ""
    direct_url: str = ""
    replicas: tuple[str, ...] = ()
    local_replicas: Annotated[int, msgspec.Meta(ge=0, le=3)] = 1
    pool: Annotated[int, msgspec.Meta(ge=2, le=500)] = 10
    connect_timeout_s: _Seconds = 10.0
    statement_timeout_s: _Seconds = 30.0
    lock_timeout_s: _Seconds = 5.0
    idle_in_transaction_timeout_s: _Seconds = 15.0
    replica_wait_s: Annotated[float, msgspec.Meta(ge=0, le=60)] = 0.1
    max_lag_s: _Seconds = 10.0
    pooler: Literal["none", "transaction"] = "none"

    @property
    def session_url(self) -> str:
        """Where a session holds: past a pooler, if there is one."""
        return self.direct_url or self.url


class ProcessSettings(Struct):
    """The processes of one machine: `[topologies.X.processes]`.

    `web` processes answer requests and `workers` do background work; on a
    machine that has only some of them the other number is 0. With `web = 1` and
    `workers = 0` one process does both, which is all that SQLite allows.

    In a topology with services each service says how many processes it has. These here
    host `modules`, and `workers` are theirs; where they host none, `web` is the number of
    gateways.

    A process that ends by itself is started again after `restart_min_s`, doubled
    at each failure up to `restart_max_s`. One whose event loop has not turned
    for `hung_s` is killed and started again; 0 lets it be.
    """

    web: Annotated[int, msgspec.Meta(ge=0, le=256)] = 1
    workers: Annotated[int, msgspec.Meta(ge=0, le=256)] = 0
    modules: tuple[str, ...] = ()
    restart_min_s: _Seconds = 0.1
    restart_max_s: _Seconds = 10.0
    start_timeout_s: _Seconds = 60.0
    hung_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 30.0
