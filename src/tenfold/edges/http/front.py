"""The front: whether a request is taken on, decided from its first line alone.

A request that is turned away here has cost its head and one write: no task, no
scope, no body.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from tenfold.contracts.errors import OverloadedError
from tenfold.edges.http.errors import HttpError
from tenfold.edges.http.problems import sentence_of
from tenfold.edges.http.routes import Routes
from tenfold.edges.http.settings import HttpProduct
from tenfold.path.shedding import Arrival, Shedder

__all__ = ["ARRIVAL", "Front"]

ARRIVAL = "tenfold.arrival"
"""Where a scope has the arrival of its request, if the server has taken it on."""

_WHOLE: Final = re.compile(
    rb"(GET|POST|PUT|PATCH|DELETE) (/[!\"$-~]*+) HTTP/1\.1\r\n"
    rb"(?:(?!(?i:content-length|transfer-encoding|connection|origin|expect|upgrade):)"
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n\0]*+\r\n)*+\r\n"
)
"""A request without a body, whose refusal needs nothing of its fields (RFC 9112, sections 2 to 5).

Strict: what it does not match is left to the parser, which knows every spelling.
"""


class Front:
    """Takes requests on for the operations of a product, or turns them away.

    Whatever serves HTTP may ask it as soon as a request's head is there; the
    application asks for itself where nobody did. Pages, health and mounts are
    never turned away.
    """

    def __init__(self, product: HttpProduct, shedder: Shedder) -> None:
        self._shedder = shedder
        self._tenant = product.tenant
        self._observe = product.edge.observe
        self._routes: Routes[tuple[str, float]] = Routes()
        for name, spec in product.routed().items():
            weight = product.door.weight(name) if product.door is not None else 1.0
            method, path = spec.declaration.method or "", spec.declaration.path or ""
            self._routes.add(method, path, (name, weight), name)
        self._refusals = [(_refusal(after_s, b""), _refusal(after_s, _CLOSE)) for after_s in (1, 2)]
        self._turn = 0

    @property
    def crowded(self) -> bool:
        """Whether somebody may have to be turned away."""
        return not self._shedder.calm

    def turn_away(self, data: bytes) -> bytes | None:
        """The whole answer to a request that is not taken on; None for one that may be.

        Args:
            data: all that came on a connection where nothing else was left over. Where it is more
                or less than one request without a body, or one of a page elsewhere, which must
                be told that it may read the answer, nothing is decided here.
        """
        found = _WHOLE.fullmatch(data)
        if found is None:
            return None
        method, target = found.groups()
        if self._is_taken_on(method.decode("ascii"), target) is not False:
            return None
        return self.refusal(close=False)

    def arrive(self, method: str, target: bytes) -> Arrival | Literal[False] | None:
        """Take a request on; None for one that is no operation's, and is not counted.

        Args:
            target: as it was sent: a path, and perhaps a query string.
        Returns: False for one that is turned away; `refusal` has its answer.
        """
        shedder = self._shedder
        if shedder.calm:
            return shedder.take(self._tenant)
        taken = self._is_taken_on(method, target)
        return shedder.take(self._tenant) if taken else taken

    def refusal(self, *, close: bool) -> bytes:
        """The whole answer to a request that was turned away.

        It tells callers by turns to come again in one and in two seconds, lest they
        come together.
        """
        self._turn ^= 1
        return self._refusals[self._turn][close]

    def _is_taken_on(self, method: str, target: bytes) -> bool | None:
        """Whether there is room for it; None for one that is no operation's."""
        try:
            place, _ = self._routes.find(target.partition(b"?")[0])
        except HttpError:
            return None
        found = place.methods.get(method) if place is not None else None
        if found is None:
            return None
        name, weight = found
        if self._shedder.admits(weight, self._tenant):
            return True
        self._observe(name, "shed", 0.0)
        return False


_CLOSE = b"connection: close\r\n"


def _refusal(after_s: int, connection: bytes) -> bytes:
    kind = OverloadedError
    body = msgspec.json.encode(
        {
            "type": f"/problems/{kind.code}",
            "title": sentence_of(kind),
            "status": 503,
            "detail": "This process has more to do than it can in time, and the request was not "
            f"begun. Send it again in {after_s} s.",
            "code": kind.code,
            "outcome": kind.outcome.value,
        }
    )
    return (
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n"
        b"x-content-type-options: nosniff\r\ncache-control: no-store\r\nretry-after: %d\r\n"
        b"content-length: %d\r\n%b\r\n%b" % (after_s, len(body), connection, body)
    )
