"""A server that is one process with one file of settings: made, started, and found again."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.local_servers import keeper
from tenfold.runtimes.local_servers.errors import ServerStartError
from tenfold.runtimes.local_servers.launching import launch, wait_ready
from tenfold.runtimes.local_servers.probes import Answer, free_port
from tenfold.runtimes.local_servers.programs import Program
from tenfold.runtimes.local_servers.state import Server
from tenfold.runtimes.local_servers.wanted import ServerWants

__all__ = ["Single", "password_of", "start_single"]


class Single(Struct):
    """What one kind of server is started with.

    `called` is its name for people. `settings` and `url` are for a port, `arguments` for the
    settings' file; `busy` is what its log says where the port is another's.
    """

    called: str
    settings: Callable[[int], str]
    arguments: Callable[[Path], Sequence[str]]
    url: Callable[[int], str]
    probe: Callable[[int], Answer]
    busy: str


def start_single(
    server: Server,
    single: Single,
    program: Program,
    deadline: float,
    note: Callable[[Server], None],
) -> Server:
    """Start it on the data of a former one, at the former port unless that is taken.

    Args:
        server: where its data is, and the port that it had.
        note: told of the process as soon as it is there.
    Raises: ServerStartError with the end of its log.
    """
    place = Path(server.place)
    conf = place / f"{server.kind}.conf"
    port = free_port(server.port)
    while True:
        conf.touch(mode=0o600)
        conf.write_text(single.settings(port))
        command = [str(program.path), *single.arguments(conf)]
        started = launch(single.called, command, place / f"{server.kind}.log")
        server = msgspec.structs.replace(
            server,
            port=port,
            url=single.url(port),
            said=f"{single.called} {program.version} {program.told} runs at 127.0.0.1:{port}.",
            pid=started.pid,
            born=started.born,
        )
        note(server)
        try:
            wait_ready(started, lambda port=port: single.probe(port), deadline)  # type: ignore[misc]
        except ServerStartError as error:
            keeper.stop_processes(server.kind, [(started.pid, started.born)])
            if time.monotonic() > deadline or single.busy not in error.log:
                raise
            port = free_port(port)
        else:
            return server


def password_of(server: Server, wants: ServerWants) -> str:
    """The password that its data goes with, made where there is none yet; tests' have none."""
    place = Path(server.place)
    place.mkdir(mode=0o700, exist_ok=True)
    path = place / "password"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text("" if wants.fast else secrets.token_hex(16))
    return path.read_text()
