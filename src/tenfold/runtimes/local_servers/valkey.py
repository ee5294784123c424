"""A Valkey beside the product: made, started, and found running."""

from __future__ import annotations

from collections.abc import Callable

from tenfold.runtimes.local_servers.probes import probe_valkey
from tenfold.runtimes.local_servers.programs import Program
from tenfold.runtimes.local_servers.single import Single, password_of, start_single
from tenfold.runtimes.local_servers.state import Server
from tenfold.runtimes.local_servers.wanted import ServerWants

__all__ = ["answers", "start_valkey"]

_CONF = """\
# Written by Tenfold at each start.
bind 127.0.0.1
port {port}
dir "{place}"
databases {databases}
save {save}
appendonly no
stop-writes-on-bgsave-error no
maxmemory 256mb
maxmemory-policy allkeys-lru
{password}"""
_TEST_DATABASES = 1024


def start_valkey(
    server: Server,
    program: Program,
    wants: ServerWants,
    deadline: float,
    note: Callable[[Server], None],
) -> Server:
    """Start a Valkey on the data of a former one; what it holds may be lost, for it is a cache.

    Args:
        server: where its data is, and the port that it had.
        note: told of the process as soon as it is there.
    Raises: ServerStartError with the end of its log.
    """
    password = password_of(server, wants)
    secret = f":{password}@" if password else ""
    single = Single(
        called="Valkey",
        settings=lambda port: _CONF.format(
            port=port,
            place=server.place,
            databases=_TEST_DATABASES if wants.fast else 16,
            save='""' if wants.fast else "60 1",
            password=f"requirepass {password}\n" if password else "",
        ),
        arguments=lambda conf: (str(conf),),
        url=lambda port: f"redis://{secret}127.0.0.1:{port}/0",
        probe=lambda port: probe_valkey(port, password),
        busy="in use",
    )
    return start_single(server, single, program, deadline, note)


def answers(server: Server, wants: ServerWants) -> bool:
    """Whether the Valkey that a data directory's file names still runs and answers."""
    return server.alive and probe_valkey(server.port, password_of(server, wants)) == "ready"
