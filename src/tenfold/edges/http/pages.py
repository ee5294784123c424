"""What the platform itself serves: health, metrics, the API's description and its page."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from tenfold.edges.http.asgi import Headers
from tenfold.edges.http.errors import RouteNotFoundError
from tenfold.edges.http.exchange import Answer, Exchange
from tenfold.edges.http.forms import JSON
from tenfold.edges.http.replies import etag_of, matches_etag
from tenfold.edges.http.settings import HttpProduct, ReadinessState

__all__ = ["RESERVED_PREFIXES", "Pages"]

RESERVED_PREFIXES = ("/_tenfold", "/docs", "/metrics", "/openapi.json", "/problems")
"""Where no contract may have a route."""

_Page = Callable[[Exchange, Sequence[str]], Awaitable[Answer]]
_JSON = (b"content-type", b"application/json")
_HTML = (b"content-type", b"text/html; charset=utf-8")
_METRICS = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
_NOSNIFF = (b"x-content-type-options", b"nosniff")
_NO_STORE = (b"cache-control", b"no-store")
_NO_CACHE = (b"cache-control", b"no-cache")
_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_POLICY = (
    b"content-security-policy",
    (
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'"
    ),
)


class Pages:
    """The platform's own pages. What is large is made when it is first asked for."""

    def __init__(self, product: HttpProduct) -> None:
        self._product = product
        self._kept: dict[str, tuple[bytes, bytes]] = {}
        self.routes: dict[str, _Page] = {
            "/_tenfold/live": self._live,
            "/_tenfold/ready": self._ready,
            "/metrics": self._metrics,
            "/openapi.json": self._openapi,
            "/docs": self._docs,
            "/problems/{code}": self._problem,
        }
        """Path pattern to page; each for GET."""

    async def _live(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        return _plain(200, JSON.encode({"state": "live"}), [_JSON, _NO_STORE])

    async def _ready(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        state = self._product.readiness()
        ready = state is ReadinessState.READY
        headers = [_JSON, _NO_STORE] if ready else [_JSON, _NO_STORE, (b"retry-after", b"1")]
        return _plain(200 if ready else 503, JSON.encode({"state": state.value}), headers)

    async def _metrics(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        return _plain(200, await self._product.metrics(), [_METRICS, _NO_STORE])

    async def _openapi(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        return self._keep(exchange, "openapi", self._make_openapi, [_JSON, _NO_CACHE])

    async def _docs(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        from tenfold.edges.http.reference_page import EXAMPLE_ORIGIN

        made, _ = self._made("docs", self._make_docs)
        body = made.replace(EXAMPLE_ORIGIN.encode("ascii"), _origin(exchange))
        return _tagged(exchange, body, etag_of(body), [_HTML, _NO_CACHE, _POLICY])

    async def _problem(self, exchange: Exchange, values: Sequence[str]) -> Answer:
        from tenfold.edges.http.openapi import problem_codes

        code = values[0]
        if code not in problem_codes(self._product):
            raise RouteNotFoundError(
                f"This product has no problem {code[:100]!r}. /docs lists those that it has."
            )
        location = (b"location", b"/docs#problem-" + code.encode("ascii"))
        return _plain(303, b"", [location, _NO_CACHE])

    def _make_openapi(self) -> bytes:
        from tenfold.edges.http.openapi import openapi_document

        return JSON.encode(openapi_document(self._product))

    def _make_docs(self) -> bytes:
        from tenfold.edges.http.reference_page import reference_page

        return reference_page(self._product)

    def _keep(
        self, exchange: Exchange, name: str, make: Callable[[], bytes], headers: Headers
    ) -> Answer:
        return _tagged(exchange, *self._made(name, make), headers)

    def _made(self, name: str, make: Callable[[], bytes]) -> tuple[bytes, bytes]:
        """A page and its entity tag, made at the first time."""
        kept = self._kept.get(name)
        if kept is None:
            body = make()
            kept = self._kept[name] = (body, etag_of(body))
        return kept


def _origin(exchange: Exchange) -> bytes:
    """Where the request went, to be shown in commands that people paste into a shell.

    A `Host` that is none is not repeated: the page would carry what its sender wrote.
    """
    scheme = b"https" if exchange.scope.get("scheme") == "https" else b"http"
    host = exchange.headers.get(b"host", b"")
    return scheme + b"://" + (host if _HOST.fullmatch(host) else b"localhost")


def _tagged(exchange: Exchange, body: bytes, tag: bytes, headers: Headers) -> Answer:
    wanted = exchange.headers.get(b"if-none-match")
    if wanted is not None and matches_etag(wanted, tag):
        return Answer(304, [(b"etag", tag), *headers[1:]], b"")
    return _plain(200, body, [*headers, (b"etag", tag)])


def _plain(status: int, body: bytes, headers: Headers) -> Answer:
    length = (b"content-length", b"%d" % len(body))
    return Answer(status, [*headers, _NOSNIFF, length], body)
