"""One request and its answer on a connection, over ASGI or, where nothing hinders it, past it."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Event, Transport
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from tenfold.edges.http.asgi import Headers

__all__ = ["Cycle"]

_CLOSE = (b"connection", b"close")


class Cycle(RequestResponseCycle):
    """uvicorn's cycle, which can also be answered in one piece. Implements `Direct`.

    What only a streamed exchange needs (an event, a transport that holds an
    answer's head back for its body) is made when it is first asked for.
    """

    def __init__(self, protocol: Any, *, keep_alive: bool) -> None:
        """`protocol` is the connection, which has read the request's head."""
        self.scope = protocol.scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.logger = protocol.logger
        self.access_logger = protocol.access_logger
        self.access_log = False
        self.default_headers = protocol.server_state.default_headers
        self.on_response: Callable[..., None] = protocol.on_response_complete
        self.disconnected = False
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue
        self.body = bytearray()
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.chunked_encoding = None
        self.expected_content_length = 0
        self._loop: AbstractEventLoop = protocol.loop
        self._tasks: set[Any] = protocol.tasks
        self._event: Event | None = None
        self._one_write = False

    @property
    def message_event(self) -> Event:  # type: ignore[override]
        """Set when there is something to be received."""
        if self._event is None:
            self._event = Event()
            if self.body or not self.more_body or self.disconnected:
                self._event.set()
        return self._event

    def start(self, app: Any) -> None:
        """Let an application answer it, in a task of its own."""
        self._task = self._loop.create_task(self._run(app))
        self._tasks.add(self._task)

    async def _run(self, app: Any) -> None:
        # A callback of the task would do that too, for one more turn of the loop.
        try:
            await self.run_asgi(app)
        finally:
            self._tasks.discard(self._task)

    def came(self, part: bytes) -> int:
        """Something of the body came; returns how much of it nobody has received yet."""
        self.body += part
        if self._event is not None:
            self._event.set()
        return len(self.body)

    def ended(self) -> None:
        """All of the request has come."""
        self.more_body = False
        if self._event is not None:
            self._event.set()

    def whole_body(self) -> bytes | None:
        """The body, where all of it has come. See `Direct.whole_body`."""
        if self.more_body or self._event is not None or self.disconnected:
            return None
        body = bytes(self.body)
        self.body = bytearray()
        return body

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer in one write. See `Direct.answer`."""
        if self.response_started or self.disconnected or self.flow.write_paused:
            return False
        fields = [*self.default_headers, *headers]
        if _CLOSE in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append(_CLOSE)
        head = b"".join([b"%b: %b\r\n" % field for field in fields])
        if head.count(b"\n") != len(fields) or head.count(b"\r") != len(fields):
            raise ValueError("A header of an answer has a line break in its name or value.")
        self.waiting_for_100_continue = False
        self.response_started = self.response_complete = True
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[status], head, body))
        if self._event is not None:
            self._event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True

    async def send(self, message: Any) -> None:
        """Send a part of an answer, as ASGI has it."""
        if not self._one_write and self.scope["method"] != "HEAD":  # which has no body to wait for
            self._one_write = True
            self.transport = _OneWrite(self.transport, self._loop)  # type: ignore[assignment]
        await super().send(message)


class _OneWrite:
    """A transport that sends an answer's head together with the body that follows it at once.

    Each write is a system call that wakes the reader: a quarter of what a small
    answer cost. A head whose body does not follow in the same step goes alone.
    """

    __slots__ = ("_began", "_head", "_loop", "_transport")

    def __init__(self, transport: Transport, loop: AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""
        self._began = False

    def write(self, data: bytes) -> None:
        """Send, or hold back for a moment what comes first."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif self._began:
            self._transport.write(data)
        else:
            self._began = True
            self._head = data
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what is held back, then close."""
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
