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
from tenfold.path.publishing import Publisher, PublisherParts, topic_of
from tenfold.ports.broker import Broker, BrokerSettings
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
        self._publishers: dict[str, Publisher] = {}
        self._logs: list[BrokerLog] = []

    def carries(self, source: str) -> bool:
        """Whether a module's events come by the broker."""
        return source not in self._hosted

    def add(self, name: str, opened: OpenedModule) -> None:
        """Publish what a module of this process declares; nothing begins before `start`."""
        names = self._events(name)
        if names:
            self._publishers[name] = Publisher(
                PublisherParts(
                    product=self._product,
                    module=name,
                    names=tuple(names),
                    outbox=opened.resources.log,
                    queue=opened.resources.queue,
                    broker=self._broker,
                    topics=self._settings.topics,
                    codec=CloudEventCodec(self._product, name, names),
                    clock=self._around.clock,
                    stop=self._around.stops.relay,
                )
            )

    def log(
        self, source: str, opened: OpenedModule, names: Iterable[str], on_news: Callable[[], None]
    ) -> BrokerLog:
        """The log of another service's module, for one subscriber of these events."""
        log = BrokerLog(
            BrokerLogParts(
                module=source,
                topic=topic_of(self._product, source),
                topics=self._settings.topics,
                broker=self._broker,
                log=opened.resources.log,
                codec=CloudEventCodec(self._product, source, self._events(source)),
                names=frozenset(names),
                on_news=on_news,
            )
        )
        self._logs.append(log)
        return log

    def start(self) -> None:
        """Begin to publish; needs a running event loop. May be done again after `stop`."""
        for publisher in self._publishers.values():
            publisher.start()

    async def stop(self) -> None:
        """Publish and read no more: another process may do it now."""
        await asyncio.gather(*(publisher.stop() for publisher in self._publishers.values()))
        await asyncio.gather(*(log.rest() for log in self._logs))

    def wake(self, module: str) -> None:
        """A unit of work of a module was committed, here or elsewhere."""
        publisher = self._publishers.get(module)
        if publisher is not None:
            publisher.wake()

    async def close(self) -> None:
        """End the connection."""
        await self._broker.close()

    def metrics(self) -> list[Gauge | Counter]:
        """What was published, and whether it can be."""
        found: list[Gauge | Counter] = []
        for name, publisher in self._publishers.items():
            labels = {"module": name}
            found.append(
                Counter(
                    name="broker_published_events",
                    help="Events that this process gave to the broker.",
                    value=publisher.published,
                    labels=labels,
                )
            )
            found.append(
                Gauge(
                    name="broker_failing",
                    help="1 while this process's last try to publish has failed.",
                    value=float(publisher.failing),
                    labels=labels,
                )
            )
        return found

    def _events(self, module: str) -> dict[str, type]:
        contract = self._shapes[module].contract
        return {f"{module}.{name}": event for name, event in contract.events.items()}
