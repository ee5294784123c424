"""uvicorn's HTTP protocol, bounded: how large a request's head and framing may be, and how slow.

And drained: see `draining` for when a connection is closed.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, BaseTransport, TimerHandle
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tenfold.edges.http.direct import DIRECT
from tenfold.runtimes.draining import Drain, has_input
from tenfold.runtimes.http_cycle import Cycle

__all__ = ["BoundedHttpProtocol", "bounded_protocol"]

_PROBLEMS = {
    400: ("Bad Request", "http.unreadable"),
    408: ("Request Timeout", "http.too_slow"),
    431: ("Request Header Fields Too Large", "http.headers_too_large"),
}


_LOOK_AGAIN_S = 0.05
_SOON_S = 0.001
"""A timer for less is none that one can ask when it rings."""


def bounded_protocol(
    *, max_head_bytes: int, head_timeout_s: float, drain: Drain | None = None
) -> type[HttpToolsProtocol]:
    """A protocol class for `uvicorn.Config(http=...)`.

    Args:
        max_head_bytes: of a request's line and headers together, and again of what follows its
            last chunk; more is answered 431.
        head_timeout_s: from a connection's start, or a request's first byte, to the end of
            its headers; later is answered 408.
        drain: what the server's connections take leave by.
    """
    return type(
        "BoundedHttpProtocol",
        (BoundedHttpProtocol,),
        {
            "max_head_bytes": max_head_bytes,
            "head_timeout_s": head_timeout_s,
            "drain": drain or Drain(),
        },
    )


class BoundedHttpProtocol(HttpToolsProtocol):
    """httptools has no bound of its own: a head without an end would fill the memory."""

    max_head_bytes: ClassVar[int]
    head_timeout_s: ClassVar[float]
    drain: ClassVar[Drain]
    cycle: Cycle | None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._in_body = False
        self._body_came = False
        self._framing_bytes = 0
        self._timer: TimerHandle | None = None
        self._last: Cycle | None = None
        self._closes_at: float | None = None
        """When a connection that rests is closed; None for one that does not rest."""

    def connection_made(self, transport: BaseTransport) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self._watch()
        self.drain.opened(self)
        if self.drain.began:
            self.begin_drain(keep_idle=self.drain.keep_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._unwatch()
        super()._unset_keepalive_if_required()
        super().connection_lost(exc)
        self.drain.closed(self)

    def begin_drain(self, *, keep_idle: bool) -> None:
        """See `DrainingConnection.begin_drain`."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._take_leave()
        elif self._in_head and self._head_bytes:
            pass  # a request is on its way: it is told in its answer
        elif not keep_idle:
            self._close_rested()
        elif self._closes_at is None:
            self._rest(self.timeout_keep_alive)

    def shutdown(self) -> None:
        """Begin to drain, where the server does not know of it."""
        if not self.drain.began:
            self.begin_drain(keep_idle=False)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has rested long enough; look again later at one that has not."""
        self.timeout_keep_alive_task = None
        if self._closes_at is None or self.transport.is_closing():
            return
        left_s = self._closes_at - self.loop.time()
        if left_s > _SOON_S:
            self._look_in(left_s)
        else:
            self._close_rested()

    def _close_rested(self) -> None:
        """Close a connection that rests, unless its next request has come just now."""
        if has_input(self.transport):
            self._rest(_LOOK_AGAIN_S)
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Read on; what ends in the middle of a head is counted and timed.

        So is what brings nothing of a body that goes on: trailer fields, above all.
        """
        if self.parser is None or self.transport.is_closing():
            return
        self._body_came = False
        self._closes_at = None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # what asks for another protocol is answered in this one (RFC 9110, 7.8)
        except httptools.HttpParserError:
            self._refuse(400, "What was sent is not a request of HTTP/1.1.")
        if self.transport.is_closing():
            return
        if self._rests() and self._closes_at is None:
            self._rest(self.timeout_keep_alive)  # empty lines before a request are none
        if self._in_body and not self._body_came:
            self._framing_bytes += len(data)
            if self._framing_bytes > self.max_head_bytes:
                self._refuse(
                    431, f"More than {self.max_head_bytes} bytes came that were not of the body."
                )
        if not self._in_head:
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.max_head_bytes:
            self._refuse(431, f"The request's head is longer than {self.max_head_bytes} bytes.")
        elif self._timer is None:
            self._watch()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        self._head_bytes = 0
        self._in_body = False
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A field of the head; those that trail a body are dropped (RFC 9110, section 6.5.1)."""
        if not self._in_head:
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A head ended in time: let the application answer, when its turn comes."""
        self._in_head = False
        self._in_body = True
        self._framing_bytes = 0
        self._unwatch()
        if not self.url.startswith(b"/"):
            self._take_authority()
        scope = self._scope()
        self.scope = scope  # type: ignore[assignment]
        before = self.cycle
        keep_alive = scope["http_version"] != "1.0" and self.parser.should_keep_alive()
        self.cycle = scope[DIRECT] = cycle = Cycle(self, keep_alive=keep_alive)
        if before is None or before.response_complete:
            cycle.start(self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        if self.drain.began:
            self._take_leave()

    def on_body(self, body: bytes) -> None:
        """Something of the body came."""
        self._body_came = True
        self._framing_bytes = 0
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return
        if cycle.came(body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """The request ended."""
        self._in_body = False
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.ended()

    def on_response_complete(self) -> None:
        """Go on to the next request, or rest."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._closes_at = None
            self.pipeline.pop()[0].start(self.app)  # type: ignore[attr-defined]
        else:
            self._rest(self.timeout_keep_alive)
        drain = self.drain
        if drain.began and not drain.keep_idle and self._rests():
            self.begin_drain(keep_idle=False)

    def _scope(self) -> dict[str, Any]:
        """The ASGI scope of the request whose head has come."""
        url = self.url
        if url.startswith(b"/") and b"#" not in url and url.isascii():
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        if "%" in path:
            path = unquote(path)
        root = self.root_path
        return {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": self.parser.get_http_version(),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": root,
            "headers": self.headers,
            "state": self.app_state.copy(),
            "method": self.parser.get_method().decode("ascii"),
            "path": root + path if root else path,
            "raw_path": root.encode("ascii") + raw_path if root else raw_path,
            "query_string": query,
        }

    def _take_leave(self) -> None:
        """Let the answer to the newest request say that it is the last.

        One whose head has gone already has promised to go on, and is kept to it:
        then the next answer says it. Of requests that wait in a row all are answered.
        """
        before, newest = self._last, self.cycle
        if before is not None and before is not newest and not before.response_started:
            before.keep_alive = True
        self._last = None
        if newest is not None and newest.keep_alive and not newest.response_started:
            newest.keep_alive = False
            self._last = newest

    def _rests(self) -> bool:
        """Whether all that came was answered, and nothing of a next request has come."""
        return self.cycle is not None and self.cycle.response_complete and not self._in_head

    def _rest(self, seconds: float) -> None:
        """Close it after so many seconds without a request.

        The timer stays over the requests that come meanwhile, and looks again
        when it rings: one for each answer would cost more than it is good for.
        """
        self._closes_at = closes_at = self.loop.time() + seconds
        timer = self.timeout_keep_alive_task
        if timer is not None and timer.when() > closes_at + _SOON_S:
            timer.cancel()
            timer = None
        if timer is None:
            self._look_in(seconds)

    def _look_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            seconds, self.timeout_keep_alive_handler
        )

    def _unset_keepalive_if_required(self) -> None:
        self._closes_at = None

    def _take_authority(self) -> None:
        """Let the host that a target names hold, whatever Host says (RFC 9112, section 3.2.2)."""
        scheme, found, rest = self.url.partition(b"://")
        if not found or not scheme.isalpha():
            return
        end = min((at for mark in b"/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
        authority, path = rest[:end].rpartition(b"@")[2], rest[end:]
        self.url = path if path.startswith(b"/") else b"/" + path
        hosts = [at for at, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(hosts) == 1:  # none or two are refused for that
            self.headers[hosts[0]] = (b"host", authority)

    def _watch(self) -> None:
        loop: AbstractEventLoop = self.loop
        self._timer = loop.call_later(self.head_timeout_s, self._slow)

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _slow(self) -> None:
        self._timer = None
        if self.url_seen:
            self._refuse(
                408, f"The request's head did not end within {self.head_timeout_s:g} seconds."
            )
        else:
            self.transport.close()  # nothing was asked, so nothing is answered

    @property
    def url_seen(self) -> bool:
        """Whether any byte of a request has come on this connection."""
        return self._head_bytes > 0

    def _refuse(self, status: int, detail: str) -> None:
        title, code = _PROBLEMS[status]
        body = msgspec.json.encode(
            {
                "type": f"/problems/{code}",
                "title": title,
                "status": status,
                "detail": f"{detail} Nothing was done, and the connection is closed.",
                "code": code,
                "outcome": "not_done",
            }
        )
        self._unwatch()
        if not self._is_answering():  # an answer that is on its way must not be cut into
            self.transport.write(
                f"HTTP/1.1 {status} {title}\r\ncontent-type: application/problem+json\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode("ascii")
                + body
            )
        self.transport.close()
        if self.cycle is not None and not self.cycle.response_complete:
            # Whoever reads this body hears that there is nobody left to answer.
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _is_answering(self) -> bool:
        """Whether the next bytes would not be taken for the answer to what is refused."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return False
        return cycle.response_started or not cycle.more_body or bool(self.pipeline)
