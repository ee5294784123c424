"""What every answer of the site carries for safety, and which posts it takes."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "decide_origin"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


def decide_origin(
    method: str, *, host: str | None, origin: str | None, fetch_site: str | None
) -> bool:
    """Whether a request may change something: it was sent by a page of this site, or by no page.

    A browser tells with every POST from where it comes; a program that is no
    browser says nothing and carries nobody's cookies. (Fetch standard, `Origin`
    and `Sec-Fetch-Site`.)
    """
    if method in _SAFE:
        return True
    if fetch_site is not None and fetch_site not in ("same-origin", "none"):
        return False
    return origin is None or (host is not None and urlsplit(origin).netloc == host.lower())


class Guard:
    """Wraps the site: turns away posts of other sites, and adds the headers of safety."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        sent = Headers(scope=scope)
        scope.setdefault("state", {})["from_this_site"] = decide_origin(
            scope["method"],
            host=sent.get("host"),
            origin=sent.get("origin"),
            fetch_site=sent.get("sec-fetch-site"),
        )
        await self._app(scope, receive, send_safely)
