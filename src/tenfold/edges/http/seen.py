"""How far a client has seen: the position token, in a header, or in a cookie for browsers."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final

from tenfold.edges.http.asgi import ASGIApp, Receive, Scope, Send
from tenfold.edges.http.errors import UnreadableRequestError
from tenfold.path.positions import SEEN, Seen

__all__ = ["COOKIE", "position_cookie", "position_of", "serve_seen"]

COOKIE: Final = "tenfold-position"
COOKIE_LIFE_S: Final = 120
"""Beyond it every replica that is not left out has replayed what was seen."""
_PART: Final = rb"[A-Za-z0-9_]{1,64}\.[A-Za-z0-9_-]{1,64}\.[0-9]{1,18}"
_POSITION: Final = re.compile(rb"%b(?:,%b){0,31}" % (_PART, _PART))
"""`name.epoch.position`, joined by commas where there are several."""


def position_of(headers: dict[bytes, bytes], *, cookies: bool) -> str | None:
    """The token that came with a request; None where there is none.

    The header goes before the cookie. A cookie that is none of ours is passed
    by, since other applications of this host may have set it.

    Raises: UnreadableRequestError for a header that no product gave.
    """
    sent = headers.get(b"tenfold-position")
    if sent is not None:
        if _POSITION.fullmatch(sent) is None:
            raise UnreadableRequestError(
                "The Tenfold-Position is none that this product gave. Send the one of an earlier "
                "reply unchanged, or leave it out.",
                field="Tenfold-Position",
            )
        return sent.decode("ascii")
    cookie = headers.get(b"cookie") if cookies else None
    if cookie is None or COOKIE.encode() not in cookie:
        return None
    try:
        found = SimpleCookie(cookie.decode("latin-1")).get(COOKIE)
    except CookieError:
        return None
    value = "" if found is None else found.value
    return value if _POSITION.fullmatch(value.encode("latin-1")) else None


def position_cookie(token: str) -> tuple[bytes, bytes]:
    """The header that lets a browser send a token with its next requests."""
    cookie = f'{COOKIE}="{token}"; Max-Age={COOKIE_LIFE_S}; Path=/; HttpOnly; SameSite=Lax'
    return b"set-cookie", cookie.encode("ascii")


async def serve_seen(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Run a mounted application so that its calls see what its client has seen, and tell on."""
    headers = dict(scope["headers"])
    try:
        sent = position_of(headers, cookies=True)
    except UnreadableRequestError:
        sent = None  # the application's headers are its own
    seen = Seen(sent)

    async def answer(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and seen.token not in (None, sent):
            token: Any = seen.token
            message = {**message, "headers": [*message["headers"], position_cookie(token)]}
        await send(message)

    entered = SEEN.set(seen)
    try:
        await app(scope, receive, answer)
    finally:
        SEEN.reset(entered)
