"""Telling other processes that a module has committed something, so that nobody has to poll fast.

    commit ── tell(module) ──> NOTIFY, by itself ──> LISTEN ──> hear(module)

A NOTIFY inside a unit of work would make committers wait for one another: the
server takes one lock for all of them, from before the commit to its end. So the
notice is a statement of its own, after the commit, and at most one every 20 ms,
however many commits it tells of. It is an optimization: what is not heard is
found by polling.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from tenfold.adapters.postgres.errors import DRIVER_ERRORS, is_lost
from tenfold.adapters.postgres.pool import Pool
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.structs import Struct

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["ONCE", "WakeupLimits", "WakeupStatistics", "Wakeups"]

_log = logging.getLogger("tenfold.store")
CHANNEL: Final = "tenfold"
# The server gives the notice a transaction number, so that its commit would wait for the disk.
_NOTIFY: Final = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)"
_MOST_BYTES: Final = 7000
"""Of a notice; the server takes fewer than 8,000."""


ONCE: Final = "!"
"""In a topic that is heard once, and not again when a notice may have been missed."""


class WakeupLimits(Struct):
    """`gap_s` is the least time between two notices; `check_s` how often the listener is tried.

    `send_s` is how long a notice may wait for a connection before it is given up.
    """

    gap_s: float = 0.02
    check_s: float = 10.0
    send_s: float = 2.0
    longest_wait_s: float = 1.0


class WakeupStatistics(Struct):
    """What was sent, heard and not sent since the start."""

    sent: int
    heard: int
    failed: int
    connected: int


class Wakeups:
    """Notices between the processes that share a database.

    Args:
        pool: what notices are sent on; the listener has a connection of its own.
    """

    def __init__(self, pool: Pool, limits: WakeupLimits | None = None) -> None:
        self._pool = pool
        self._limits = limits or WakeupLimits()
        self._me = secrets.token_hex(4)
        self._untold: dict[str, None] = {}
        self._known: set[str] = set()
        self._sending: asyncio.Task[None] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._closed = False
        self._sent = self._heard = self._failed = self._connected = 0

    def statistics(self) -> WakeupStatistics:
        """What was sent and heard."""
        return WakeupStatistics(
            sent=self._sent, heard=self._heard, failed=self._failed, connected=self._connected
        )

    def tell(self, module: str) -> None:
        """Let others know that a module has committed. Cheap; to be called on the event loop.

        The first is sent at once, those that follow together after the gap.
        """
        if self._closed:
            return
        self._untold[module] = None
        if self._sending is None:
            self._sending = asyncio.get_running_loop().create_task(self._send(), name="wakeups")

    async def listen(self, hear: Callable[[str], None]) -> None:
        """Call `hear` with each module of which another process tells, from now on.

        After a connection was lost it is called with each that was ever named, since
        notices may have been missed. Does nothing behind a pooler that changes
        connections between transactions: there polling has to do.
        """
        if self._pool.transaction_pooler:
            return
        ready = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen(hear, ready), name="listener")
        await asyncio.wait([self._listening, ready], return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """Stop; what was not sent yet is found by polling."""
        self._closed = True
        tasks = [task for task in (self._sending, self._listening) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self) -> None:
        try:
            while self._untold:
                began = time.monotonic()
                modules, self._untold = list(self._untold), {}
                self._known.update(topic for topic in modules if ONCE not in topic)
                for payload in _payloads(self._me, modules):
                    await self._notify(payload)
                left = self._limits.gap_s - (time.monotonic() - began)
                await asyncio.sleep(max(left, 0.0))
        finally:
            self._sending = None

    async def _notify(self, payload: str) -> None:
        try:
            pooled = await self._pool.take(None, time.monotonic() + self._limits.send_s)
        except StoreUnavailableError:
            self._failed += 1
            return
        try:
            await pooled.raw.execute(_NOTIFY, CHANNEL, payload)
            self._sent += 1
        except DRIVER_ERRORS as error:
            self._failed += 1
            if is_lost(error):
                self._pool.lose(pooled, error)
        finally:
            self._pool.give_back(pooled)

    async def _listen(self, hear: Callable[[str], None], ready: asyncio.Future[None]) -> None:
        wait_s = 0.05
        while True:
            try:
                await self._listen_once(hear, ready)
                wait_s = 0.05
            except (*DRIVER_ERRORS, TimeoutError) as error:
                _log.warning(
                    "The connection that hears of other processes' commits failed (%s). It is made "
                    "anew; until then what they commit is found by polling.",
                    type(error).__name__,
                )
            finally:
                if not ready.done():
                    ready.set_result(None)
            await asyncio.sleep(wait_s * (0.5 + random.random() / 2))
            wait_s = min(wait_s * 2, self._limits.longest_wait_s)

    async def _listen_once(self, hear: Callable[[str], None], ready: asyncio.Future[None]) -> None:
        """Hear until the connection ends."""
        ended = asyncio.Event()
        connection = await self._connect(ended)
        try:
            await connection.add_listener(CHANNEL, lambda _c, _p, _ch, text: self._on(text, hear))
            self._connected += 1
            if not ready.done():
                ready.set_result(None)
            else:
                for module in sorted(self._known):
                    hear(module)
            while not ended.is_set():
                try:
                    async with asyncio.timeout(self._limits.check_s):
                        await ended.wait()
                except TimeoutError:
                    # Nothing comes from a server that is gone without a word.
                    await connection.execute("SELECT 1", timeout=self._limits.check_s)
        finally:
            connection.terminate()

    async def _connect(self, ended: asyncio.Event) -> Connection:
        settings = self._pool.settings
        arguments: dict[str, Any] = {"dsn": settings.url, "timeout": settings.connect_timeout_s}
        if "target_session_attrs" not in settings.url:
            arguments["target_session_attrs"] = "read-write"
        connection = await asyncpg.connect(
            server_settings={"application_name": f"{settings.application} listener"}, **arguments
        )
        connection.add_termination_listener(lambda _: ended.set())
        return connection

    def _on(self, text: object, hear: Callable[[str], None]) -> None:
        sender, _, modules = str(text).partition(":")
        if sender == self._me:
            return
        self._heard += 1
        for module in modules.split(","):
            if ONCE not in module:
                self._known.add(module)
            hear(module)


def _payloads(sender: str, modules: list[str]) -> Iterator[str]:
    """Notices that name all modules, each short enough."""
    text = ""
    for module in modules:
        if text and len(text.encode()) + len(module.encode()) > _MOST_BYTES:
            yield text
            text = ""
        text = f"{text},{module}" if text else f"{sender}:{module}"
    if text:
        yield text
