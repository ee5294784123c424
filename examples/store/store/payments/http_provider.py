"""The provider over HTTP: a key in every request, a limit on every wait, nothing assumed.

The exchange is the one that the large providers share: `POST {url}/charges` with
an `Idempotency-Key` answers 201 with the charge or 402 where it is declined;
`GET {url}/charges/{key}` tells what became of it, 404 where nothing did. Every
other answer, and none, means that it may have charged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import quote, urlsplit

import msgspec

from store.payments.provider import Answer, Captured, Charge, Declined, ProviderSilentError
from tenfold import Struct

__all__ = ["HttpProvider"]

_MAX_ANSWER_BYTES = 65_536
_THREADS = 16


class _Charged(Struct):
    id: str


class _Refused(Struct):
    reason: str


class HttpProvider:
    """A `PaymentProvider` behind a URL.

    Each exchange has a connection and a thread of its own: at some hundred
    milliseconds a charge, a pool of connections would save nothing that counts.

    Args:
        url: where the provider's API begins; `https` outside of tests.
        token: sent as a bearer token.
        timeout_s: for connecting, and for each wait for bytes; the whole
            exchange is given up after twice as long.
    Raises: ValueError for a URL that is not `http` or `https`.
    """

    def __init__(self, url: str, token: str, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"The payment provider's url is {url!r}, which is not an address. "
                "Set it under [topologies.NAME.settings.payments], such as "
                '"https://api.example.com/v1".'
            )
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._path = parts.path.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="payment-provider")

    async def capture(self, charge: Charge) -> Sequence[Answer]:
        """Charge, or tell what became of the charge with this key."""
        body = msgspec.json.encode(
            {
                "amount": charge.amount.minor,
                "currency": charge.amount.currency,
                "customer": charge.customer_id,
                "order": charge.order_id,
            }
        )
        status, answer = await self._exchange("POST", "/charges", charge.key, body)
        return [_read(status, answer)]

    async def find(self, key: str) -> Answer | None:
        """What became of the charge with this key; None where the provider never saw it."""
        status, answer = await self._exchange("GET", f"/charges/{quote(key, safe='')}", key, None)
        return None if status == 404 else _read(status, answer)

    async def close(self) -> None:
        """Let go of the threads; an exchange under way ends with its own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _exchange(
        self, method: str, path: str, key: str, body: bytes | None
    ) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(2 * self._timeout_s):
                return await loop.run_in_executor(
                    self._threads, self._blocking, method, path, key, body
                )
        except (OSError, HTTPException, TimeoutError) as error:
            raise ProviderSilentError(
                f"{method} {path}: {error or type(error).__name__}"
            ) from error

    def _blocking(self, method: str, path: str, key: str, body: bytes | None) -> tuple[int, bytes]:
        kind = HTTPSConnection if self._secure else HTTPConnection
        connection = kind(self._host, self._port, timeout=self._timeout_s)
        headers = {
            "Accept": "application/json",
            "Authorization": f"Bearer {self._token}",
            "Idempotency-Key": key,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._path + path, body=body, headers=headers)
            response = connection.getresponse()
            return response.status, response.read(_MAX_ANSWER_BYTES)
        finally:
            connection.close()


def _read(status: int, body: bytes) -> Answer:
    """An answer that can be relied on, or ProviderSilentError."""
    try:
        if status in (200, 201):
            return Captured(reference=msgspec.json.decode(body, type=_Charged).id)
        if status == 402:
            return Declined(reason=msgspec.json.decode(body, type=_Refused).reason)
    except msgspec.MsgspecError as error:
        raise ProviderSilentError(f"status {status} with a body that means nothing") from error
    raise ProviderSilentError(f"status {status}")
