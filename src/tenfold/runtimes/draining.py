"""How a server takes leave of its connections without failing a request.

HTTP/1.1 lets either side close a connection between two requests, and a request
that is on its way at that moment is lost (RFC 9112, section 9.6). So a draining
process closes nothing that a caller may be using: what it answers says
`Connection: close`, and a connection that rests ends when its keep-alive time is
over, as it would have anyway. A caller that survives the keep-alive time thus
survives a restart.
"""

from __future__ import annotations

import asyncio
import select
from asyncio import BaseTransport
from typing import Protocol

from tenfold.contracts.structs import Struct

__all__ = ["Drain", "DrainOrder", "DrainingConnection", "has_input"]


class DrainOrder(Struct):
    """How a process is to stop.

    `linger_s` is how long it still accepts connections while it says that it is
    not ready, so that a balancer looks elsewhere first. Without `keep_idle`
    connections that rest are closed at once, for when nobody takes over.
    """

    linger_s: float = 0.0
    keep_idle: bool = True


class DrainingConnection(Protocol):
    """What a drain does with each connection."""

    def begin_drain(self, *, keep_idle: bool) -> None:
        """Answer one request more at most, then close."""
        ...


class Drain:
    """The leave-taking of one server, shared by its connections."""

    def __init__(self) -> None:
        self.began = False
        self.keep_idle = True
        self._open: set[DrainingConnection] = set()
        self._changed = asyncio.Event()

    def opened(self, connection: DrainingConnection) -> None:
        """A connection was made."""
        self._open.add(connection)

    def closed(self, connection: DrainingConnection) -> None:
        """A connection ended."""
        self._open.discard(connection)
        if not self._open:
            self._changed.set()

    def begin(self, *, keep_idle: bool) -> None:
        """From here on every connection is on its last request; to be called again is no harm."""
        self.began = True
        self.keep_idle = keep_idle
        for connection in list(self._open):
            connection.begin_drain(keep_idle=keep_idle)

    async def wait_closed(self) -> None:
        """Return when no connection is open."""
        while self._open:
            self._changed.clear()
            await self._changed.wait()


def has_input(transport: BaseTransport) -> bool:
    """Whether bytes have come on a connection that the loop has not read yet.

    A loop runs its timers before it reads, so the timer that closes a resting
    connection may find a request waiting in the socket.
    """
    socket = transport.get_extra_info("socket")
    if socket is None:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), select.POLLIN)
    return bool(poll.poll(0))
