"""A NATS with JetStream beside the product: made, started, and found running."""

from __future__ import annotations

from collections.abc import Callable

from tenfold.runtimes.local_servers.probes import probe_nats
from tenfold.runtimes.local_servers.programs import Program
from tenfold.runtimes.local_servers.single import Single, password_of, start_single
from tenfold.runtimes.local_servers.state import Server
from tenfold.runtimes.local_servers.wanted import ServerWants

__all__ = ["nats_answers", "start_nats"]

_CONF = """\
# Written by Tenfold at each start.
host: 127.0.0.1
port: {port}
server_name: tenfold
jetstream {{
    store_dir: "{place}"
    sync_interval: {sync}
}}
{password}"""
_USER = "tenfold"


def start_nats(
    server: Server,
    program: Program,
    wants: ServerWants,
    deadline: float,
    note: Callable[[Server], None],
) -> Server:
    """Start a NATS on the data of a former one. What it acknowledges is on the disk.

    Args:
        server: where its data is, and the port that it had.
        note: told of the process as soon as it is there.
    Raises: ServerStartError with the end of its log.
    """
    password = password_of(server, wants)
    user = f'authorization {{ user: "{_USER}", password: "{password}" }}\n' if password else ""
    secret = f"{_USER}:{password}@" if password else ""
    single = Single(
        called="NATS",
        settings=lambda port: _CONF.format(
            port=port,
            place=server.place,
            sync='"2m"' if wants.fast else "always",
            password=user,
        ),
        arguments=lambda conf: ("-c", str(conf)),
        url=lambda port: f"nats://{secret}127.0.0.1:{port}",
        probe=probe_nats,
        busy="address already in use",
    )
    return start_single(server, single, program, deadline, note)


def nats_answers(server: Server) -> bool:
    """Whether the NATS that a data directory's file names still runs and answers."""
    return server.alive and probe_nats(server.port) == "ready"
