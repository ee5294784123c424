"""One connection to NATS, and JetStream's words over it: each bounded, each error translated."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError, OutboundBufferLimitError

from tenfold.ports.broker import BrokerUnavailableError

__all__ = ["Connection", "JetStreamError"]

_AGAIN_S: Final = 0.1
_PING_S: Final = 10
_NEXT_URL: Final = re.compile(r",\s*(?=[a-z]+://)")
_encode = msgspec.json.encode


class JetStreamError(Exception):
    """JetStream refused what was asked of it. It does not leave the adapter, which translates it.

    `number` is JetStream's own, which names the reason.
    """

    def __init__(self, message: str, *, number: int) -> None:
        super().__init__(message)
        self.number = number


class Connection:
    """A connection that is made when it is first used, and made again whenever it is lost.

    While it is lost nothing is buffered: what is asked waits for it until its time is
    up, so that nothing is sent that nobody waits for any more.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self._servers = _servers(url)
        self.timeout_s = timeout_s
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._up = asyncio.Event()
        self._asked: set[asyncio.Task[Msg]] = set()
        self._closed = False
        self._last = "it could not be reached"
        self.epoch = 0
        """Grows with every connection: what the server held for an earlier one may be gone."""

    @property
    def up(self) -> bool:
        """Whether there is a connection at the moment."""
        return self._client is not None and self._client.is_connected

    async def client(self) -> Client:
        """The connection, up. Raises: BrokerUnavailableError after `timeout_s`."""
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    if self._closed:
                        raise _closed_here()
                    if self._client is None or self._client.is_closed:
                        await self._connect()
                    assert self._client is not None
                    if self._client.is_connected:
                        return self._client
                    self._up.clear()
                    await self._up.wait()
        except (TimeoutError, NatsError, OSError) as error:
            raise self.unavailable("connect", error) from error

    async def _connect(self) -> None:
        async with self._connecting:
            if self._client is not None and not self._client.is_closed:
                return
            made = Client()
            self._client = None
            try:
                await made.connect(
                    servers=self._servers,
                    error_cb=self._on_error,
                    disconnected_cb=self._on_disconnected,
                    reconnected_cb=self._on_connected,
                    connect_timeout=max(1, int(self.timeout_s)),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=_AGAIN_S,  # type: ignore[arg-type]
                    ping_interval=_PING_S,
                    pending_size=0,
                    name="tenfold",
                )
            except BaseException:
                # A first connection that was given up goes on trying by itself otherwise.
                await made.close()
                raise
            if self._closed:
                await made.close()
                raise _closed_here()
            if not self._is_as_wanted(made):
                await made.close()
                raise BrokerUnavailableError(
                    f"NATS at {', '.join(map(_hidden, self._servers))} does not speak TLS, and its "
                    "URL begins with `tls://`. Nothing was sent but the greeting, which has the "
                    "user and the password. Set `tls { }` in the server's configuration."
                )
            self._client = made
            await self._on_connected()

    def _is_as_wanted(self, client: Client) -> bool:
        """Whether it speaks TLS, if it is to: the library goes by what the server says."""
        if not self._servers[0].startswith("tls://"):
            return True
        writer = getattr(client._transport, "_io_writer", None)
        return writer is not None and writer.get_extra_info("ssl_object") is not None

    async def _on_connected(self) -> None:
        client = self._client
        if client is not None and not self._is_as_wanted(client):
            await client.close()  # another server is there now; who comes next is told
        self.epoch += 1
        self._up.set()

    async def _on_disconnected(self) -> None:
        self._up.clear()
        for task in self._asked:  # no answer to them will come
            task.cancel()

    async def _on_error(self, error: Exception) -> None:
        self._last = str(error) or type(error).__name__

    async def api(self, word: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask JetStream's API something.

        Raises: BrokerUnavailableError; JetStreamError with the reason.
        """
        body = b"" if question is None else _encode(question)
        return await self.ask(f"$JS.API.{word}", body, None)

    async def ask(
        self, subject: str, body: bytes, headers: dict[str, str] | None
    ) -> dict[str, Any]:
        """Send a message, and what JetStream answers to it.

        Raises: BrokerUnavailableError; JetStreamError with the reason.
        """
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self.timeout_s
        client = await self.client()
        left_s = max(until_s - loop.time(), 0.001)  # both within one limit
        asking = client.request(subject, body, timeout=left_s, headers=headers)
        task = asyncio.ensure_future(asking)
        self._asked.add(task)
        task.add_done_callback(self._asked.discard)
        try:
            reply = await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            raise self.unavailable("answer", ConnectionError("the connection was lost")) from None
        except NoRespondersError as error:
            raise JetStreamError(f"Nobody answers to {subject}.", number=0) from error
        except (TimeoutError, NatsError, OSError) as error:
            raise self.unavailable("answer", error) from error
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" in answer:
            said = answer["error"]
            text = f"{said.get('description', 'no reason')} ({said.get('err_code', 0)})"
            raise JetStreamError(text, number=said.get("err_code", 0))
        return answer

    def unavailable(self, did: str, error: BaseException) -> BrokerUnavailableError:
        """The error for people, of one of the library's."""
        reason = self._last if isinstance(error, TimeoutError | OutboundBufferLimitError) else ""
        reason = reason or str(error) or type(error).__name__
        return BrokerUnavailableError(
            f"NATS at {', '.join(_hidden(each) for each in self._servers)} did not {did} within "
            f"{self.timeout_s:g} s: {reason}. Whether it was done is not known; doing it again is "
            "safe. See that the server runs with JetStream (`nats-server -js`), and that "
            "`[topologies.X.broker] url` names it."
        )

    async def close(self) -> None:
        """End it, and whoever waits for it. Safe to call twice."""
        self._closed = True
        self._up.set()
        client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(self.timeout_s):
                    await client.close()
            except (NatsError, OSError, TimeoutError):
                return  # it was lost meanwhile


def _closed_here() -> BrokerUnavailableError:
    return BrokerUnavailableError("The connection to NATS was closed here.")


def _servers(url: str) -> list[str]:
    """The servers of a URL, or of several parted by commas, each with all that it needs.

    A user who is written once is for all of them, and so is `tls://`.
    """
    scheme = "tls" if "tls://" in url else "nats"
    found: list[str] = []
    who = ""
    for each in _NEXT_URL.split(url):
        user, at, hosts = each.partition("://")[2].rpartition("@")
        who = user + at or who
        found += [f"{scheme}://{who}{host}" for host in hosts.split(",")]
    return found


def _hidden(url: str) -> str:
    """A server's URL without a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
