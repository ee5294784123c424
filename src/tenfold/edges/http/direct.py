"""What a server may offer beside ASGI: a body that is there already, an answer in one piece.

Nearly every request of an operation has come whole when its handler begins, and
is answered at once. Over ASGI that is three messages, each a dictionary, an
await and a look at what state the exchange is in: a fifth of what a small read
over a database costs this process. A server that has no such thing is spoken to
by ASGI alone.
"""

from __future__ import annotations

from typing import Protocol

from tenfold.edges.http.asgi import Headers

__all__ = ["DIRECT", "Direct"]

DIRECT = "tenfold.direct"
"""Where a scope has it."""


class Direct(Protocol):
    """One exchange of a request and its answer, past ASGI."""

    def whole_body(self) -> bytes | None:
        """The body, where all of it has come and nothing of it was received yet; else None."""
        ...

    def answer(self, status: int, headers: Headers, body: bytes) -> bool:
        """Send a whole answer in one write; False where it has to go by ASGI.

        Args:
            headers: names in lower case; `content-length` among them, but for an
                answer that has no body by its status.
        """
        ...
