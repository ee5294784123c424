"""An HTTP protocol that turns requests away before they are any work, and accepts all who wait."""

from __future__ import annotations

import asyncio
import socket
import time
from asyncio import AbstractEventLoop, BaseTransport, Task
from collections.abc import Callable
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenfold.edges.http.front import ARRIVAL, Front
from tenfold.path.shedding import Arrival
from tenfold.runtimes.http_protocol import BoundedHttpProtocol

__all__ = ["Acceptor", "fronted"]


_ONE_EACH_S = 0.001
_AT_ONCE = 64


def fronted(
    protocol: type[HttpToolsProtocol], front: Front, listener: socket.socket | None = None
) -> type[HttpToolsProtocol]:
    """A protocol of `bounded_protocol`, whose requests are asked of `front` first.

    Args:
        listener: where connections come from, not blocking. The event loop accepts one of
            them in each of its turns (libuv since 1.46), so that in a busy process new
            callers, and those who ask for its health, would wait for seconds to be heard.
    """
    acceptor = None if listener is None else Acceptor(listener)
    return type("FrontedHttpProtocol", (_Fronted, protocol), {"front": front, "acceptor": acceptor})


class Acceptor:
    """Accepts those who wait at a listener, beside its server, as far as the loop is late.

    Where several processes share the listener, the server's one in a turn spreads
    connections among them. So a process whose turns are short takes no more, and one
    whose turn took long takes one for each millisecond of it.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._asked = False
        self._tasks: set[Task[Any]] = set()

    def accept(self, loop: AbstractEventLoop, make: Callable[[], BoundedHttpProtocol]) -> None:
        """Accept more when the loop has gone round once, if that took long."""
        if not self._asked:
            self._asked = True
            loop.call_soon(self._go_round, loop, make)

    async def settle(self) -> None:
        """Return when every connection that was accepted has its protocol."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _go_round(self, loop: AbstractEventLoop, make: Callable[[], BoundedHttpProtocol]) -> None:
        loop.call_soon(self._turn, loop, make, time.monotonic())

    def _turn(
        self, loop: AbstractEventLoop, make: Callable[[], BoundedHttpProtocol], before_s: float
    ) -> None:
        now_s = time.monotonic()
        for _ in range(min(_AT_ONCE, int((now_s - before_s) / _ONE_EACH_S))):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # nobody waits, or it is closed; what is wrong with it its server tells
                self._asked = False
                return
            connection.setblocking(False)
            if connection.family != socket.AF_UNIX:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = loop.create_task(loop.connect_accepted_socket(make, connection))
            self._tasks.add(task)
            task.add_done_callback(self._made)
        if now_s - before_s < _ONE_EACH_S:
            self._asked = False
        else:  # there may be more of them
            loop.call_soon(self._turn, loop, make, now_s)

    def _made(self, task: Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever connected has gone again


class _Fronted(BoundedHttpProtocol):
    front: ClassVar[Front]
    acceptor: ClassVar[Acceptor | None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._data = b""
        self._refused = False
        self._arrival: Arrival | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin, and let those in who wait behind it."""
        super().connection_made(transport)
        if self.acceptor is not None:
            self.acceptor.accept(self.loop, self._another)

    def data_received(self, data: bytes) -> None:
        """Read on, past the parser where all of it is one request that is turned away."""
        if self.front.crowded and self._awaits_request():
            answer = self.front.turn_away(data)
            if answer is not None:
                self._in_head = False
                self._unwatch()
                self._turn_away(answer)
                return
        self._data = data
        super().data_received(data)
        self._data = b""

    def on_headers_complete(self) -> None:
        """Take the request on, or remember to refuse it once it has ended."""
        self._unset_keepalive_if_required()  # of a refusal before it, in the same data
        cycle = self.cycle
        if (cycle is None or cycle.response_complete) and not self.drain.began and self._is_whole():
            arrival = self.front.arrive(self.parser.get_method().decode("ascii"), self.url)
            if arrival is False:
                self._refused = True
                self._in_head = False
                self._unwatch()
                return
            if arrival is not None:
                self._arrival = arrival
        self._data = b""  # what follows in it is another request's
        try:
            super().on_headers_complete()
        finally:
            if self._arrival is not None:  # its target was none: nobody will end it
                self._arrival.leave()
                self._arrival = None

    def on_body(self, body: bytes) -> None:
        """Something of the body came, which nobody reads if the request is refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ended."""
        if not self._refused:
            super().on_message_complete()
            return
        self._refused = False
        keep_alive = self.parser.should_keep_alive()
        self._turn_away(self.front.refusal(close=not keep_alive))
        if not keep_alive:
            self.transport.close()

    def _turn_away(self, answer: bytes) -> None:
        self.server_state.total_requests += 1
        self.transport.write(answer)
        self._rest(self.timeout_keep_alive)

    def _awaits_request(self) -> bool:
        """Whether all that came before was answered, and the parser has nothing of a next one."""
        if self._in_head:
            if self._head_bytes:  # perhaps only empty lines
                return False
        elif self._in_body:
            return False
        cycle = self.cycle
        return (
            (cycle is None or cycle.response_complete)
            and not self.drain.began
            and not self.transport.is_closing()
        )

    def _another(self) -> BoundedHttpProtocol:
        return type(self)(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )

    def _scope(self) -> dict[str, Any]:
        scope = super()._scope()
        if self._arrival is not None:
            scope[ARRIVAL], self._arrival = self._arrival, None
        return scope

    def _is_whole(self) -> bool:
        """Whether all of the request is there, and its refusal needs nothing of it.

        One whose body is on its way takes up no room until it has come; it is
        decided by the application. So is one of a page elsewhere, which must be
        told that it may read the answer, and one whose answer has no body.
        """
        length = 0
        for name, value in self.headers:
            if name == b"content-length":
                if not value.isdigit() or len(value) > 9:
                    return False
                length = int(value)
            elif name in (b"transfer-encoding", b"origin", b"expect", b"upgrade"):
                return False
        if length:
            head, found, _ = self._data.partition(b"\r\n\r\n")
            if not found or len(self._data) - len(head) - 4 < length:
                return False
        return self.parser.get_method() != b"HEAD"
