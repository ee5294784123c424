"""Where a service is that runs on other machines: addresses, and names that stand for several."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from tenfold.adapters.frames.endpoints import Dial
from tenfold.adapters.frames.link import connect_tls
from tenfold.contracts.structs import Struct
from tenfold.ports.frames import PeerUnavailableError

__all__ = ["Address", "Addresses", "parse_address"]

_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
_SHAPE: Final = re.compile(
    rf"(dns://)?(\[[0-9A-Fa-f:.]+\]|{_LABEL}(?:\.{_LABEL})*\.?):([0-9]{{1,5}})"
)
_AGAIN_S: Final = 5.0
_log = logging.getLogger("tenfold.frames")
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Address(Struct):
    """One address; `every` for a name of which all addresses are meant, looked up again and again.

    That is also how the pods of a headless service of Kubernetes are found.
    """

    host: str
    port: int
    every: bool = False


def parse_address(text: str) -> Address:
    """Read `host:port`, `[::1]:port` or `dns://name:port`.

    Raises: ValueError that says what was expected.
    """
    found = _SHAPE.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text!r} is not an address, such as 10.0.0.5:7001 or dns://NAME:7001.")
    return Address(host=found[2].strip("[]"), port=int(found[3]), every=found[1] is not None)


async def _resolve(host: str, port: int) -> Sequence[str]:
    """Every A and AAAA record."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(address[0]) for *_, address in found})


class Addresses:
    """A directory of places that are reached over TLS. Implements `Directory`."""

    def __init__(
        self,
        addresses: Sequence[Address],
        tls: ssl.SSLContext,
        service: str,
        *,
        links: int,
        resolve: Resolve = _resolve,
    ) -> None:
        """Nothing is looked up before somebody asks.

        Args:
            tls: shows our certificate, and believes whom the product's authority has named.
            service: the name that the other end's certificate must have.
            links: connections that are held to each place.
            resolve: all addresses of a name.
        """
        self.links = links
        self.again_s: float | None = _AGAIN_S if any(each.every for each in addresses) else None
        self._addresses = addresses
        self._tls = tls
        self._service = service
        self._resolve = resolve
        self._known: dict[Address, Sequence[str]] = {}

    async def look(self) -> Mapping[str, Dial]:
        """See `Directory`. A name that cannot be looked up stands for what it stood for before."""
        places: dict[str, Dial] = {}
        why = ""
        for address in self._addresses:
            hosts: Sequence[str] = (address.host,)
            if address.every:
                try:
                    self._known[address] = await self._resolve(address.host, address.port)
                except (OSError, UnicodeError) as error:
                    why = f" {address.host}: {error}."
                    _log.warning("%s cannot be looked up: %s.", address.host, error)
                hosts = self._known.get(address, ())
            for host in hosts:
                places[f"{host} {address.port}"] = partial(
                    connect_tls, host, address.port, tls=self._tls, service=self._service
                )
        if not places:
            raise PeerUnavailableError(
                f"No address of the service {self._service!r} is known.{why} Nothing was sent."
            )
        return places
