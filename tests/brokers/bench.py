"""What the benches of brokers on real servers have in common."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from tenfold.ports.broker import Broker, BrokerSettings, TopicSettings
from tenfold.runtimes.brokers import open_broker
from tests.brokers.servers import BrokerServer

__all__ = ["LaunchedBench", "ServerBench"]

_READY_S = 60.0


class ServerBench:
    """A bench on a server that can be killed; how it is started, and made to forget, is its own.

    Args:
        server: has a `url` and can be killed.
        timeout_s: for each word with it.
    """

    trims = True
    restarts = True
    too_large_bytes = 1_100_000
    server: Any

    def __init__(self, server: Any, timeout_s: float = 5.0) -> None:
        self.server = server
        self._timeout_s = timeout_s
        self._made: list[Broker] = []

    def topic(self) -> str:
        return f"t{secrets.token_hex(6)}"

    async def open(self) -> Broker:
        settings = BrokerSettings(url=self.server.url, timeout_s=self._timeout_s)
        self._made.append(open_broker(settings))
        return self._made[-1]

    async def stop(self) -> None:
        self.server.kill()

    async def close(self) -> None:
        for made in self._made:
            await made.close()


class LaunchedBench(ServerBench):
    """A bench on a server that was started here, or on one of another's, which is left alone."""

    server: BrokerServer

    def __init__(self, server: BrokerServer) -> None:
        super().__init__(server)
        self.restarts = server.own

    async def start(self) -> None:
        self.server.launch()
        await asyncio.to_thread(self.server.wait)
        # It listens before it can do everything.
        asking = open_broker(BrokerSettings(url=self.server.url, timeout_s=_READY_S))
        await asking.ensure(self.topic(), TopicSettings(partitions=1))
        await asking.close()
