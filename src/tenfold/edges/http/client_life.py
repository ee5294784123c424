"""How long clients, and caches between here and them, may keep an answer (RFC 9111)."""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.edges.http.asgi import Headers
from tenfold.path.entry import Reply

__all__ = ["ClientLife"]

_Header = tuple[bytes, bytes]
_SAFE = "/:._-"
_FOR_ALL: _Header = (b"vary", b"accept, tenfold-position")
_FOR_STRANGERS: _Header = (b"vary", b"accept, authorization, cookie, tenfold-position")
_FOR_ONE: _Header = (b"vary", b"accept")


class ClientLife:
    """Decides for the answers of one query that says `cache_s`; compiled once.

    An answer is public, so that a CDN may keep it, only where anyone may ask,
    and where it does not depend on who asked: either the query says
    `cache_for="everyone"`, or the request carried nothing that could tell its
    sender. A position tells what one caller has seen: it never stands in a
    public answer, and who sends one is answered privately.
    """

    __slots__ = ("_anyone", "_everyone", "_private", "_public")

    def __init__(self, spec: OperationSpec) -> None:
        said = spec.declaration
        life = f"max-age={int(said.cache_s or 0)}"
        if said.stale_if_error_s:
            life += f", stale-if-error={int(said.stale_if_error_s)}"
        self._anyone = said.who == "anyone"
        self._everyone = said.cache_for == "everyone"
        self._public: _Header = (b"cache-control", f"public, {life}".encode("ascii"))
        self._private: _Header = (b"cache-control", f"private, {life}".encode("ascii"))

    def decide(self, reply: Reply, headers: dict[bytes, bytes]) -> tuple[Reply, _Header, Headers]:
        """How one answer may be kept.

        Returns: the reply as it may be sent, its Vary, and the headers that say
        how long it may be kept. `Age` counts against `max-age`, so that what is
        kept here is not kept for its whole life once more elsewhere.
        """
        kept = reply.kept
        aged: Headers = [] if kept is None else [(b"age", b"%d" % kept.age_s)]
        if not self._is_public(reply, headers):
            return reply, _FOR_ONE, [self._private, *aged]
        if reply.position is not None:
            reply = msgspec.structs.replace(reply, position=None)
        if kept is not None and kept.tags:
            keys = [quote(tag, safe=_SAFE) for tag in kept.tags]
            aged.append((b"surrogate-key", " ".join(keys).encode("ascii")))
            aged.append((b"cache-tag", ",".join(keys).encode("ascii")))
        return reply, _FOR_ALL if self._everyone else _FOR_STRANGERS, [self._public, *aged]

    def _is_public(self, reply: Reply, headers: dict[bytes, bytes]) -> bool:
        if not self._anyone or b"tenfold-position" in headers:
            return False
        if self._everyone:
            return b"tenfold-position=" not in headers.get(b"cookie", b"")
        return (
            reply.position is None and b"authorization" not in headers and b"cookie" not in headers
        )
