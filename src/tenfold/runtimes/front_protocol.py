"""An HTTP protocol that turns requests away before they are any work."""

from __future__ import annotations

from typing import Any, ClassVar

from tenfold.edges.http.front import ARRIVAL, Front
from tenfold.runtimes.http_protocol import BoundedHttpProtocol

__all__ = ["fronted"]


def fronted(protocol: type[BoundedHttpProtocol], front: Front) -> type[BoundedHttpProtocol]:
    """A protocol like the one given, whose requests are asked of `front` first."""
    return type("FrontedHttpProtocol", (_Fronted, protocol), {"front": front})


class _Fronted(BoundedHttpProtocol):
    front: ClassVar[Front]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._data = b""
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self._data = data
        super().data_received(data)
        self._data = b""

    def on_headers_complete(self) -> None:
        """Take the request on, or remember to refuse it once it has ended."""
        cycle = self.cycle
        if (cycle is None or cycle.response_complete) and not self.drain.began and self._is_whole():
            arrival = self.front.arrive(self.parser.get_method().decode("ascii"), self.url)
            if arrival is False:
                self._refused = True
                self._in_head = False
                self._unwatch()
                return
            if arrival is not None:
                self.scope[ARRIVAL] = arrival  # type: ignore[literal-required]
        self._data = b""  # what follows in it is another request's
        super().on_headers_complete()

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
        self.server_state.total_requests += 1
        if self.parser.should_keep_alive():
            self.transport.write(self.front.refusal(close=False))
            self._rest(self.timeout_keep_alive)
        else:
            self.transport.write(self.front.refusal(close=True))
            self.transport.close()

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
