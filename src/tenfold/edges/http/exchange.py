"""One HTTP request while it is answered: what its headers ask for, and its body."""

from __future__ import annotations

import re
from asyncio import CancelledError
from typing import Any

from tenfold.contracts.envelope import TraceContext
from tenfold.edges.http.asgi import Headers, Receive, Scope
from tenfold.edges.http.direct import DIRECT, Direct
from tenfold.edges.http.errors import (
    BodyTooLargeError,
    CrossOriginError,
    HeadersTooLargeError,
    MisdirectedError,
    SlowRequestError,
    TargetTooLongError,
    UnreadableRequestError,
)
from tenfold.edges.http.settings import HttpSettings
from tenfold.edges.http.waiting import Alarm, guarded
from tenfold.path.shedding import Arrival
from tenfold.ports.clock import Ids

__all__ = ["Answer", "ClientGoneError", "Exchange", "idempotency_key", "wait_of"]

_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_WAIT = re.compile(rb"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)
_LISTS = frozenset((b"accept", b"prefer", b"if-none-match", b"cookie", b"cache-control"))
_SINGLE = frozenset(
    (
        b"content-type",
        b"content-length",
        b"idempotency-key",
        b"host",
        b"origin",
        b"tenfold-position",
        b"traceparent",
    )
)
_AMBIGUOUS = b"\x00"
_LET_FINISH = 16
"""How many times the largest body is read on for, to be thrown away, before it is refused."""
_LET_FINISH_S = 2.0
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class ClientGoneError(Exception):
    """The client closed the connection before it was answered; nobody is there to be told."""


class Answer:
    """A status, headers and a body, ready to be sent. `label` is its outcome in the metrics."""

    __slots__ = ("body", "headers", "label", "status")

    def __init__(self, status: int, headers: Headers, body: bytes, label: str = "ok") -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.label = label

    @property
    def is_public(self) -> bool:
        """Whether caches between here and the client may keep it for others."""
        return any(
            name == b"cache-control" and value.startswith(b"public") for name, value in self.headers
        )


class Exchange:
    """One request. `headers` has the last of each name; `trace` is the span of this request."""

    __slots__ = (
        "_has_more",
        "arrival",
        "direct",
        "headers",
        "method",
        "raw_path",
        "receive",
        "scope",
        "trace",
    )

    def __init__(self, scope: Scope, receive: Receive, ids: Ids) -> None:
        self.scope = scope
        self.receive = receive
        self.arrival: Arrival | None = scope.get("tenfold.arrival")
        # Not for whom this calls: a mount answers through `send`, which may be wrapped.
        self.direct: Direct | None = scope.pop(DIRECT, None)
        self.method: str = scope["method"]
        self.raw_path = _raw_path(scope)
        raw = scope["headers"]
        headers: dict[bytes, bytes] = dict(raw)
        if len(headers) != len(raw):
            headers = _joined(raw)
        self.headers = headers
        sent = headers.get(b"traceparent")
        parent = TraceContext.parse(sent.decode("latin-1")) if sent is not None else None
        if parent is None:
            self.trace = TraceContext(trace_id=ids.hex(128), span_id=ids.hex(64))
        else:
            self.trace = TraceContext(
                trace_id=parent.trace_id, span_id=ids.hex(64), sampled=parent.sampled
            )

    def check(self, settings: HttpSettings) -> None:
        """Refuse what is too large, and what comes from where nothing should come from.

        Raises: HttpError.
        """
        raw = self.scope["headers"]
        if len(raw) > settings.max_headers:
            raise HeadersTooLargeError(
                f"The request has {len(raw)} headers; at most {settings.max_headers} are read."
            )
        size = 0
        for name, value in raw:
            size += len(name) + len(value)
        if size > settings.max_header_bytes:
            raise HeadersTooLargeError(
                f"The headers have {size} bytes; at most {settings.max_header_bytes} are read."
            )
        length = len(self.raw_path) + len(self.scope["query_string"])
        if length > settings.max_target_bytes:
            raise TargetTooLongError(
                f"The path and query string have {length} bytes; at most "
                f"{settings.max_target_bytes} are read."
            )
        if settings.allowed_hosts:
            self._check_host(settings)
        if self.method not in _SAFE and b"origin" in self.headers:
            self._check_origin(settings)

    def _check_host(self, settings: HttpSettings) -> None:
        sent = self.headers.get(b"host")
        if (sent is None and self.scope.get("http_version") == "1.1") or sent == _AMBIGUOUS:
            raise UnreadableRequestError(
                "A request of HTTP/1.1 has one Host header; this one has "
                f"{'none' if sent is None else 'several'} (RFC 9112, section 3.2).",
                field="Host",
            )
        host = (sent or b"").decode("latin-1").lower()
        name, colon, port = host.rpartition(":")
        if not colon or (port and not (port.isascii() and port.isdigit())):
            name = host  # no port, or the end of an IPv6 address
        if name not in settings.allowed_hosts:
            raise MisdirectedError(
                f"The request is for the host {name[:100]!r}; this product answers to "
                f"{', '.join(settings.allowed_hosts)}. Use one of them, or allow the host in the "
                "product's HTTP settings."
            )

    def _check_origin(self, settings: HttpSettings) -> None:
        # A page of another origin can send some requests without asking first. It could not
        # read the answer, but the command would have run, with the user's own rights.
        origin = self.headers[b"origin"].decode("latin-1")
        here = self.headers.get(b"host", b"").decode("latin-1")
        if origin.partition("://")[2].lower() == here.lower():
            return
        allowed = settings.allowed_origins
        if "*" not in allowed and origin not in allowed:
            raise CrossOriginError(
                f"A page of {origin[:100]!r} may not change anything at {here[:100]!r}. Allow the "
                "origin in the product's HTTP settings if it should."
            )

    def uncount(self) -> None:
        """It is not one of those whose number is limited after all, or it is over."""
        if self.arrival is not None:
            self.arrival.leave()

    async def body(self, settings: HttpSettings) -> bytes:
        """The whole body, within the limits of size and time.

        Raises: BodyTooLargeError, SlowRequestError, ClientGoneError.
        """
        declared = self.headers.get(b"content-length")
        limit = settings.max_body_bytes
        if declared is not None:
            if not declared.isdigit():
                raise UnreadableRequestError(
                    "The Content-Length is not a number.", field="Content-Length"
                )
            if len(declared) > 18 or int(declared) > limit:
                if len(declared) <= 18 and int(declared) <= limit * _LET_FINISH:
                    await self._let_finish(settings)
                raise _too_large(limit)
        whole = None if self.direct is None else self.direct.whole_body()
        if whole is not None:
            if len(whole) > limit:
                raise _too_large(limit)
            return whole
        alarm = Alarm(settings.body_timeout_s)
        try:
            return await guarded(self._read(limit), alarm)
        except BodyTooLargeError:
            if self._has_more:
                await self._let_finish(settings)
            raise
        except CancelledError:
            if not alarm.rang:
                raise
        raise SlowRequestError(
            f"The body did not arrive within {settings.body_timeout_s:g} seconds. Nothing was "
            "done; send it again in one go."
        )

    async def _let_finish(self, settings: HttpSettings) -> None:
        """Read on for a while, without keeping anything, before a body is refused for its size.

        Most clients send all they have and listen afterwards. Closing on bytes
        that nobody read resets the connection, and the answer is lost with it.
        """
        if b"expect" in self.headers:
            return  # it waits to be told before it sends
        alarm = Alarm(min(settings.body_timeout_s, _LET_FINISH_S))
        try:
            await guarded(self._discard(settings.max_body_bytes * _LET_FINISH), alarm)
        except CancelledError:
            if not alarm.rang:
                raise

    async def _read(self, limit: int) -> bytes:
        part, more = await self._next_part()
        parts, size = [part], len(part)
        while more and size <= limit:
            part, more = await self._next_part()
            parts.append(part)
            size += len(part)
        if size > limit:
            self._has_more = more
            raise _too_large(limit)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _discard(self, most: int) -> None:
        left, more = most, True
        while more and left > 0:
            part, more = await self._next_part()
            left -= len(part)

    async def _next_part(self) -> tuple[bytes, bool]:
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message.get("body", b""), message.get("more_body", False)


def idempotency_key(headers: dict[bytes, bytes]) -> str | None:
    """The Idempotency-Key header, where there is one.

    Raises: UnreadableRequestError for a key that is not 1 to 255 visible ASCII characters.
    """
    key = headers.get(b"idempotency-key")
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise UnreadableRequestError(
            "The Idempotency-Key must have 1 to 255 visible ASCII characters, without spaces. "
            "A UUID is a good key.",
            field="Idempotency-Key",
        )
    return key.decode("ascii")


def wait_of(headers: dict[bytes, bytes], most_s: float) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most `most_s`; None where it is not asked."""
    prefer = headers.get(b"prefer")
    if prefer is None:
        return None
    found = _WAIT.search(prefer)
    return min(float(found[1]), most_s) if found else None


def _too_large(limit: int) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The body has more than {limit} bytes, which is the most that is read. Nothing was "
        "done; send less at a time."
    )


def _raw_path(scope: Scope) -> bytes:
    path: bytes | None = scope.get("raw_path")
    if path is None:
        from urllib.parse import quote

        path = quote(scope["path"], safe="/:@!$&'()*+,;=-._~").encode("ascii")
    root = scope.get("root_path")
    if root:
        from urllib.parse import quote

        for prefix in (root.encode("utf-8"), quote(root).encode("ascii")):
            if path.startswith(prefix + b"/"):
                return path[len(prefix) :]
    return path


def _joined(raw: Any) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        if name in headers and name in _LISTS:
            headers[name] += b", " + value
        elif name in headers and name in _SINGLE and headers[name] != value:
            # Which of two is meant cannot be told; the checks that follow refuse this value.
            headers[name] = _AMBIGUOUS
        else:
            headers[name] = value
    return headers
