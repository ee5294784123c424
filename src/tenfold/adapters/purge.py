"""Purges by HTTP: tells a CDN, or a cache of one's own, which tags to drop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from urllib.parse import quote, urlsplit

from tenfold.contracts.errors import UserMistakeError
from tenfold.ports.cache import PurgeFailedError

__all__ = ["HttpPurger", "surrogate_key"]

_TIMEOUT_S = 5.0
_MOST_TAGS = 100
_SAFE = "/:._-"


def surrogate_key(tag: str) -> str:
    """A tag as it stands in `Surrogate-Key` and `Cache-Tag`: no blank, no comma, only ASCII."""
    return quote(tag, safe=_SAFE)


class HttpPurger:
    """Sends `PURGE` with `Surrogate-Key` and `Cache-Tag` to one address.

    Varnish, Fastly and nginx with a purge module take it as it is; where a CDN
    wants a token, it stands in the address as its user's password, and is sent
    as `Authorization: Bearer`.
    """

    def __init__(self, url: str) -> None:
        """Read the address. Raises: UserMistakeError where it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserMistakeError(
                f"The purge address {url!r} cannot be used. Write it as http://host:port/path."
            )
        self._host = parts.hostname
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._token = parts.password

    async def purge(self, tags: Sequence[str]) -> None:
        """Have every copy with one of these tags dropped. See `Purger.purge`."""
        keys = [surrogate_key(tag) for tag in tags]
        for at in range(0, len(keys), _MOST_TAGS):
            part = keys[at : at + _MOST_TAGS]
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    status = await self._send(part)
            except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                raise PurgeFailedError(
                    f"{self._host}:{self._port} could not be told to drop {len(part)} tags: "
                    f"{type(error).__name__}: {error}. It is told again later; until then it may "
                    "answer with what it has."
                ) from error
            # 404: it has none of them.
            if not (200 <= status < 300 or status == 404):
                raise PurgeFailedError(
                    f"{self._host}:{self._port} answered a purge of {len(part)} tags with "
                    f"{status}. It is told again later; look whether it takes PURGE, and from here."
                )

    async def _send(self, keys: Sequence[str]) -> int:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=ssl.create_default_context() if self._tls else None
        )
        try:
            head = [
                f"PURGE {self._path} HTTP/1.1",
                f"Host: {self._host}:{self._port}",
                f"Surrogate-Key: {' '.join(keys)}",
                f"Cache-Tag: {','.join(keys)}",
                "Content-Length: 0",
                "Connection: close",
            ]
            if self._token:
                head.append(f"Authorization: Bearer {self._token}")
            writer.write("\r\n".join([*head, "", ""]).encode("ascii"))
            await writer.drain()
            line = await reader.readuntil(b"\n")
            return int(line.split()[1])
        except IndexError as error:
            raise ValueError("it answered with something that is no HTTP") from error
        finally:
            writer.close()
