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
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from ssl import SSLContext

from tenfold.adapters.frames.addresses import Addresses, parse_address
from tenfold.adapters.frames.endpoints import Directory, Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import UserMistakeError
from tenfold.edges.frames import FrameServer, bind_socket
from tenfold.path.splitting import SplitPeer
from tenfold.ports.peers import Peer
from tenfold.runtimes.hosting import WEB
from tenfold.runtimes.processes import Splitting
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

    def __init__(self, folder: Path, groups: Mapping[str, ServiceSettings]) -> None:
        """Bind one for each group that runs on this machine. Raises: as `add`.

        Args:
            folder: which only the owner may open.
        """
        self._folder = folder
        self._bound: dict[str, socket.socket] = {}
        self._paths: dict[str, Path] = {}
        self.add(groups)

    def add(self, groups: Mapping[str, ServiceSettings]) -> None:
        """Bind those that are not bound yet. Raises: OSError, UserMistakeError.

        Where one cannot be bound, none of them is.
        """
        here = {n: each for n, each in groups.items() if each.replicas and n not in self._bound}
        paths = {
            name: self._folder / f"service-{name}.sock"
            for name, each in here.items()
            if not each.listen
        }
        for path in paths.values():
            if len(os.fsencode(path)) > _MOST_PATH_BYTES:
                raise UserMistakeError(
                    f"{path} is too long a path for a socket. Nothing was started. Choose a "
                    "shorter TENFOLD_DATA, or a shorter name of the service."
                )
        try:
            for name, each in here.items():
                if name in paths:
                    self._bound[name] = bind_socket(paths[name])
                    self._paths[name] = paths[name]
                else:
                    self._bound[name] = _bind(name, each.listen)
                self._bound[name].listen(_BACKLOG)
        except BaseException:
            self.close_others(set(self._bound) - set(here))
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
        self.close_others(())

    def close_others(self, groups: Collection[str]) -> None:
        """Close those of all other groups, and remove their paths."""
        for name in [each for each in self._bound if each not in groups]:
            self._bound.pop(name).close()
            path = self._paths.pop(name, None)
            if path is not None:
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


class Place:
    """Where one process stands: the service that it is of, and the others within its reach."""

    def __init__(
        self, service: str, sockets: Mapping[str, Path], splitting: Splitting | None = None
    ) -> None:
        """`service` is empty for a gateway, and for a web process or worker that hosts modules."""
        self.service = service
        self.group = service or WEB
        self._sockets = sockets
        self._splitting = splitting
        self._remotes: list[RemoteService] = []
        self.splits: dict[str, SplitPeer] = {}
        """Who answers for each module that is hosted here and by a service, once there are peers.
        They are one, since modules of one service are split together."""

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
            if self._splitting is not None and name == self._splitting.service:
                split = SplitPeer(remote, self._splitting.share)
                self.splits = dict.fromkeys(settings.modules, split)
            else:
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
