"""Services on one machine: where each listens, and how a process reaches the others.

A service has one Unix socket, which its processes share as web processes share
the port: a process that is replaced leaves the socket to its successor, and a
caller that is told to go elsewhere finds the successor there.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import UserMistakeError
from tenfold.edges.frames import bind_socket
from tenfold.ports.peers import Peer
from tenfold.runtimes.topology import Product

__all__ = ["Place", "Sockets"]

_LINKS_EACH = 2
"""Connections that a process holds for each replica of a service: the kernel hands them out."""
_BACKLOG = 512
_MOST_PATH_BYTES = 100
"""Linux takes 107 bytes and macOS 103."""


class Sockets:
    """The sockets of a supervisor's services, bound before their processes begin."""

    def __init__(self, folder: Path, services: Iterable[str]) -> None:
        """Bind one for each service. Raises: OSError, UserMistakeError.

        Args:
            folder: which only the owner may open.
        """
        self._bound: dict[str, socket.socket] = {}
        self._paths = {name: folder / f"service-{name}.sock" for name in services}
        for path in self._paths.values():
            if len(os.fsencode(path)) > _MOST_PATH_BYTES:
                raise UserMistakeError(
                    f"{path} is too long a path for a socket. Nothing was started. Choose a "
                    "shorter TENFOLD_DATA, or a shorter name of the service."
                )
        try:
            for name, path in self._paths.items():
                self._bound[name] = bind_socket(path)
                self._bound[name].listen(_BACKLOG)
        except BaseException:
            self.close()
            raise

    @property
    def paths(self) -> dict[str, str]:
        """Where each service listens."""
        return {name: str(path) for name, path in self._paths.items()}

    def of(self, service: str) -> socket.socket:
        """The socket of one service."""
        return self._bound[service]

    def close(self) -> None:
        """Close them, and remove their paths."""
        for name, bound in self._bound.items():
            bound.close()
            with contextlib.suppress(FileNotFoundError):
                self._paths[name].unlink()
        self._bound.clear()


class Place:
    """Where one process stands: the service that it is of, and the others within its reach."""

    def __init__(self, service: str, sockets: Mapping[str, Path]) -> None:
        """`service` is empty for a gateway, which hosts no module."""
        self.service = service
        self._sockets = sockets
        self._remotes: list[RemoteService] = []

    def peers(self, product: Product) -> dict[str, Peer]:
        """Who answers for each module that is not of this service."""
        found: dict[str, Peer] = {}
        for name, settings in product.topology.services.items():
            if name == self.service:
                continue
            path = self._sockets[name]
            places = Fixed(
                {str(path): partial(connect, path)}, links=_LINKS_EACH * settings.replicas
            )
            remote = RemoteService(name, places, most=settings.max_calls)
            self._remotes.append(remote)
            found |= dict.fromkeys(settings.modules, remote)
        return found

    async def close(self) -> None:
        """End the connections to the others."""
        for remote in self._remotes:
            await remote.close()
