"""A Valkey beside the product: made, started, and found running."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.errors import ServerStartError
from tenfold.runtimes.local_servers.launching import Launch, launch, wait_ready
from tenfold.runtimes.local_servers.probes import free_port, probe_valkey
from tenfold.runtimes.local_servers.programs import Program
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
    place = Path(server.place)
    place.mkdir(mode=0o700, exist_ok=True)
    password = _password(place, wants)
    conf = place / "valkey.conf"
    port = free_port(server.port)
    while True:
        text = _CONF.format(
            port=port,
            place=place,
            databases=_TEST_DATABASES if wants.fast else 16,
            save='""' if wants.fast else "60 1",
            password=f"requirepass {password}\n" if password else "",
        )
        conf.touch(mode=0o600)
        conf.write_text(text)
        started = launch("Valkey", [str(program.path), str(conf)], place / "valkey.log")
        server = _at(server, port, password, program, started)
        note(server)
        try:
            wait_ready(started, lambda port=port: probe_valkey(port, password), deadline)  # type: ignore[misc]
        except ServerStartError as error:
            keeper.stop_processes("valkey", [(started.pid, started.born)])
            if time.monotonic() > deadline or "in use" not in error.log:
                raise
            port = free_port(port)
        else:
            return server


def _at(server: Server, port: int, password: str, program: Program, started: Launch) -> Server:
    secret = f":{password}@" if password else ""
    return msgspec.structs.replace(
        server,
        port=port,
        url=f"redis://{secret}127.0.0.1:{port}/0",
        said=f"Valkey {program.version} {program.told} runs at 127.0.0.1:{port}.",
        pid=started.pid,
        born=started.born,
    )


def answers(server: Server, wants: ServerWants) -> bool:
    """Whether the Valkey that a data directory's file names still runs and answers."""
    return (
        server.alive and probe_valkey(server.port, _password(Path(server.place), wants)) == "ready"
    )


def _password(place: Path, wants: ServerWants) -> str:
    path = place / "password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text("" if wants.fast else secrets.token_hex(16))
    return path.read_text()
