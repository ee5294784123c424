"""Services: where each listens, and how a process reaches the others.

A service has one socket on a machine, which its processes share as web processes share
the port: a process that is replaced leaves the socket to its successor, and a
caller that is told to go elsewhere finds the successor there. It is a Unix socket, or
an address where it says so.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from ssl import SSLContext

from tenfold.adapters.frames.addresses import Addresses, parse_address
from tenfold.adapters.frames.endpoints import Directory, Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import UserMistakeError
from tenfold.edges.frames import FrameServer, bind_socket
from tenfold.ports.peers import Peer
from tenfold.runtimes.hosting import WEB
from tenfold.runtimes.reach import GATEWAY, addresses_of, caller_tls, server_tls
from tenfold.runtimes.settings import ServiceSettings
from tenfold.runtimes.topology import Product

__all__ = ["Place", "Sockets", "answer_at"]

_LINKS_EACH = 2
"""Connections that a process holds for each replica of a service on its machine, which the kernel
hands out; to each address as many, and two where none runs here."""
_BACKLOG = 512
_MOST_PATH_BYTES = 100
"""Linux takes 107 bytes and macOS 103."""


class Sockets:
    """The sockets of a supervisor's services, bound before their processes begin."""

    def __init__(self, folder: Path, services: Mapping[str, ServiceSettings]) -> None:
        """Bind one for each service that runs on this machine. Raises: OSError, UserMistakeError.

        Args:
            folder: which only the owner may open.
        """
        self._bound: dict[str, socket.socket] = {}
        here = {name: each for name, each in services.items() if each.replicas}
        self._paths = {
            name: folder / f"service-{name}.sock" for name, each in here.items() if not each.listen
        }
        for path in self._paths.values():
            if len(os.fsencode(path)) > _MOST_PATH_BYTES:
                raise UserMistakeError(
                    f"{path} is too long a path for a socket. Nothing was started. Choose a "
                    "shorter TENFOLD_DATA, or a shorter name of the service."
                )
        try:
            for name, path in self._paths.items():
                self._bound[name] = bind_socket(path)
            for name, each in here.items():
                if each.listen:
                    self._bound[name] = _bind(name, each.listen)
            for bound in self._bound.values():
                bound.listen(_BACKLOG)
        except BaseException:
            self.close()
            raise

    @property
    def paths(self) -> dict[str, str]:
        """Where each service listens that has a Unix socket."""
        return {name: str(path) for name, path in self._paths.items()}

    def of(self, group: str) -> socket.socket | None:
        """The socket of one group; None for gateways, which nobody calls."""
        return self._bound.get(group)

    def close(self) -> None:
        """Close them, and remove their paths."""
        for name, bound in self._bound.items():
            bound.close()
            if name in self._paths:
                with contextlib.suppress(FileNotFoundError):
                    self._paths[name].unlink()
        self._bound.clear()


class Place:
    """Where one process stands: the service that it is of, and the others within its reach."""

    def __init__(self, service: str, sockets: Mapping[str, Path]) -> None:
        """`service` is empty for a gateway, and for a web process or worker that hosts modules."""
        self.service = service
        self.group = service or WEB
        self._sockets = sockets
        self._remotes: list[RemoteService] = []

    def peers(self, product: Product) -> dict[str, Peer]:
        """Who answers for each module that is not hosted here."""
        found: dict[str, Peer] = {}
        topology = product.topology
        others = {n: each for n, each in topology.groups.items() if n != self.group}
        far = any(addresses_of(each) for each in others.values())
        tls = caller_tls(topology.tls, product.root) if far else None
        for name, settings in others.items():
            directory = self._directory(name, settings, tls)
            remote = RemoteService(name, directory, most=settings.max_calls)
            self._remotes.append(remote)
            found |= dict.fromkeys(settings.modules, remote)
        return found

    async def close(self) -> None:
        """End the connections to the others."""
        for remote in self._remotes:
            await remote.close()

    def _directory(self, name: str, settings: ServiceSettings, tls: SSLContext | None) -> Directory:
        addresses = addresses_of(settings)
        if addresses and tls is not None:
            links = _LINKS_EACH * max(settings.replicas, 1)
            return Addresses(addresses, tls, name, links=links)
        path = self._sockets[name]
        return Fixed({str(path): partial(connect, path)}, links=_LINKS_EACH * settings.replicas)


async def answer_at(
    server: FrameServer, listener: socket.socket, product: Product, group: str
) -> None:
    """Let a process of a group take calls at its socket. Raises: UserMistakeError, OSError."""
    topology = product.topology
    if not topology.groups[group].listen:
        await server.listen(listener)
        return
    tls = server_tls(topology.tls, product.root)
    await server.listen_tls(listener, tls, {GATEWAY, *topology.services})


def _bind(service: str, listen: str) -> socket.socket:
    address = parse_address(listen)
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((address.host, address.port))
    except OSError as error:
        bound.close()
        raise UserMistakeError(
            f"The service {service!r} cannot listen at {listen}: {error.strerror}. Nothing was "
            "started. Name an address of this machine that nobody else listens at."
        ) from error
    bound.setblocking(False)
    return bound
