"""A NATS with JetStream beside the product: made, started, and found running."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.errors import ServerStartError
from tenfold.runtimes.local_servers.launching import Launch, launch, wait_ready
from tenfold.runtimes.local_servers.probes import free_port, probe_nats
from tenfold.runtimes.local_servers.programs import Program
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
    place = Path(server.place)
    place.mkdir(mode=0o700, exist_ok=True)
    password = _password(place, wants)
    conf = place / "nats.conf"
    port = free_port(server.port)
    while True:
        user = f'authorization {{ user: "{_USER}", password: "{password}" }}\n'
        text = _CONF.format(
            port=port,
            place=place,
            sync='"2m"' if wants.fast else "always",
            password=user if password else "",
        )
        conf.touch(mode=0o600)
        conf.write_text(text)
        started = launch("NATS", [str(program.path), "-c", str(conf)], place / "nats.log")
        server = _at(server, port, password, program, started)
        note(server)
        try:
            wait_ready(started, lambda port=port: probe_nats(port), deadline)  # type: ignore[misc]
        except ServerStartError as error:
            keeper.stop_processes("nats", [(started.pid, started.born)])
            if time.monotonic() > deadline or "address already in use" not in error.log:
                raise
            port = free_port(port)
        else:
            return server


def _at(server: Server, port: int, password: str, program: Program, started: Launch) -> Server:
    secret = f"{_USER}:{password}@" if password else ""
    return msgspec.structs.replace(
        server,
        port=port,
        url=f"nats://{secret}127.0.0.1:{port}",
        said=f"NATS {program.version} {program.told} runs at 127.0.0.1:{port}.",
        pid=started.pid,
        born=started.born,
    )


def nats_answers(server: Server) -> bool:
    """Whether the NATS that a data directory's file names still runs and answers."""
    return server.alive and probe_nats(server.port) == "ready"


def _password(place: Path, wants: ServerWants) -> str:
    path = place / "password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text("" if wants.fast else secrets.token_hex(16))
    return path.read_text()
