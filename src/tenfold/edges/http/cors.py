"""Cross-origin requests (https://fetch.spec.whatwg.org/#http-cors-protocol)."""

from __future__ import annotations

from collections.abc import Sequence

from tenfold.edges.http.asgi import Headers
from tenfold.edges.http.settings import HttpSettings

__all__ = ["Cors"]

_EXPOSED = (
    b"ETag, Idempotency-Replayed, Location, Preference-Applied, Retry-After, Tenfold-Behind, "
    b"Tenfold-Position, Tenfold-Settled, Tenfold-Trace-Id"
)
_TAKEN = (
    b"Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Prefer, "
    b"Tenfold-Position, Traceparent"
)
_KEPT_S = b"600"


class Cors:
    """Which pages of other origins may call the product. No cookies: they are not asked for."""

    def __init__(self, settings: HttpSettings) -> None:
        self._any = "*" in settings.allowed_origins
        self._origins = frozenset(o.encode("latin-1") for o in settings.allowed_origins)

    def headers(self, headers: dict[bytes, bytes]) -> Headers:
        """What every answer carries, so that an allowed page may read it."""
        if self._any:
            return [
                (b"access-control-allow-origin", b"*"),
                (b"access-control-expose-headers", _EXPOSED),
            ]
        origin = headers.get(b"origin")
        if origin not in self._origins or origin is None:
            return [(b"vary", b"origin")]
        return [
            (b"vary", b"origin"),
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
        ]

    def preflight(self, headers: dict[bytes, bytes], allowed: Sequence[str]) -> Headers:
        """What the answer to a preflight adds; nothing where it is none, or of another origin."""
        origin = headers.get(b"origin")
        if b"access-control-request-method" not in headers or origin is None:
            return []
        if not self._any and origin not in self._origins:
            return []
        return [
            (b"access-control-allow-methods", ", ".join(allowed).encode("ascii")),
            (b"access-control-allow-headers", _TAKEN),
            (b"access-control-max-age", _KEPT_S),
        ]
