"""What a process has to do with the broker: what its modules publish, and whose events they read.

Only whoever leads its service publishes and reads; the others hold a connection that
nothing uses until they lead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.broker_log import BrokerLog, BrokerLogParts
from tenfold.path.cloud_events import CloudEventCodec
from tenfold.path.publishing import Publishing, PublishingParts, publisher_feed, topic_of
from tenfold.path.relay import Feed
from tenfold.ports.broker import Broker, BrokerSettings
from tenfold.ports.transfer import Transfer
from tenfold.runtimes.opening import OpenedModule, Surroundings
from tenfold.runtimes.reflection import ModuleShape

__all__ = ["Brokered"]


class Brokered:
    """The broker's part of one process.

    Args:
        product: its name, with which topics begin.
        hosted: the modules of this process; the events of all others come by the broker.
    """

    def __init__(
        self,
        product: str,
        broker: Broker,
        settings: BrokerSettings,
        shapes: Mapping[str, ModuleShape],
        hosted: Iterable[str],
        around: Surroundings,
    ) -> None:
        self._product = product
        self._broker = broker
        self._settings = settings
        self._shapes = shapes
        self._hosted = frozenset(hosted)
        self._around = around
        self._publishing: dict[str, Publishing] = {}
        self._logs: list[BrokerLog] = []

    def carries(self, source: str) -> bool:
        """Whether a module's events come by the broker."""
        return source not in self._hosted

    def publishing(self, name: str, opened: OpenedModule) -> tuple[Transfer, Feed] | None:
        """What publishes the events of a module of this process, and what its relay follows.

        None for a module that declares no events.
        """
        events = self._events(name)
        if not events:
            return None
        made = self._publishing[name] = Publishing(
            PublishingParts(
                product=self._product,
                module=name,
                outbox=opened.resources.log,
                queue=opened.resources.queue,
                broker=self._broker,
                topics=self._settings,
                codec=CloudEventCodec(self._product, name, events),
                clock=self._around.clock,
            )
        )
        return made, publisher_feed(name)

    def log(
        self, source: str, opened: OpenedModule, names: Iterable[str], on_news: Callable[[], None]
    ) -> BrokerLog:
        """The log of another service's module, for one subscriber of these events."""
        log = BrokerLog(
            BrokerLogParts(
                module=source,
                topic=topic_of(self._product, source),
                topics=self._settings,
                broker=self._broker,
                log=opened.resources.log,
                codec=CloudEventCodec(self._product, source, self._events(source)),
                names=frozenset(names),
                on_news=on_news,
            )
        )
        self._logs.append(log)
        return log

    async def rest(self) -> None:
        """Read no more: another process may do it now."""
        await asyncio.gather(*(log.rest() for log in self._logs))

    async def close(self) -> None:
        """End the connection."""
        await self._broker.close()

    def metrics(self) -> list[Gauge | Counter]:
        """What was published, and whether it can be."""
        found: list[Gauge | Counter] = []
        for name, publishing in self._publishing.items():
            labels = {"module": name}
            found.append(
                Counter(
                    name="broker_published_events",
                    help="Events that this process gave to the broker.",
                    value=publishing.published,
                    labels=labels,
                )
            )
            found.append(
                Gauge(
                    name="broker_failing",
                    help="1 while this process's last try to publish has failed.",
                    value=float(publishing.failing),
                    labels=labels,
                )
            )
        return found

    def _events(self, module: str) -> dict[str, type]:
        contract = self._shapes[module].contract
        return {f"{module}.{name}": event for name, event in contract.events.items()}
