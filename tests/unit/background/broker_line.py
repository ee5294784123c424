"""A way from one module's log over a broker to the queue of another, for tests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from tenfold.adapters.memory.broker import MemoryBroker
from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.operations import Kind
from tenfold.path.broker_log import BrokerLog, BrokerLogParts
from tenfold.path.cloud_events import CloudEventCodec
from tenfold.path.publishing import Publishing, PublishingParts, publisher_feed, topic_of
from tenfold.path.queue import Worker
from tenfold.path.relay import Feed, Relay, RelayLimits, RelayParts
from tenfold.path.stops import Stop
from tenfold.ports.broker import Broker, TopicSettings
from tenfold.ports.records import EventRecord
from tests.conformance.sqlite_bench import SqliteBench

if TYPE_CHECKING:
    from tests.unit.background.conftest import Crew

WORK = Feed(handler="work", source="orders", events=("Placed",))
CODEC = CloudEventCodec("shop", "orders", {})
TOPIC = topic_of("shop", "orders")
TOPICS = TopicSettings(partitions=3)


def placed(
    number: int, bench: SqliteBench, name: str = "Placed", payload: Any = None
) -> EventRecord:
    envelope = Envelope(
        id=f"m{number}",
        kind=Kind.EVENT,
        target=name,
        payload=payload or {"number": number},
        principal=OPERATOR,
        tenant="main",
        trace=TraceContext(trace_id="1" * 32, span_id="2" * 16),
        at=bench.clock.now(),
        order_key=f"k{number % 5}",
    )
    return EventRecord(
        message_id=envelope.id,
        name=name,
        tenant="main",
        order_key=envelope.order_key,
        at=envelope.at,
        body=msgspec.msgpack.encode(envelope),
    )


class Publisher(Relay):
    """A relay that carries into the broker, with what it carries by."""

    def __init__(self, parts: PublishingParts, worker: Worker) -> None:
        self.publishing = Publishing(parts)
        self.feed = publisher_feed(parts.module)
        relay = RelayParts(
            module="broker",
            queue=parts.queue,
            sources={parts.module: parts.outbox},
            worker=worker,
            clock=parts.clock,
            stop=Stop("relay"),
            limits=RelayLimits(poll_s=60, transfer=1000),
            transfers={parts.module: self.publishing},
        )
        super().__init__(relay, [self.feed])

    @property
    def place(self) -> int:
        """Up to where all is published, as far as it has looked."""
        return self.position(self.feed.key)


class Line:
    """From one module's log to the queue of another, and what may go wrong on the way."""

    def __init__(self, source: SqliteBench, crew: Crew) -> None:
        self.source = source
        self.crew = crew
        self.broker = MemoryBroker()
        self.news = asyncio.Event()
        self.logs: list[BrokerLog] = []
        self.told = 0

    async def publish(self, count: int, name: str = "Placed") -> None:
        """Commit events in the source's log."""
        numbers = range(self.told, self.told + count)
        await self.source.publish([placed(n, self.source, name) for n in numbers])
        self.told += count

    def publisher(self, broker: Broker | None = None, **fields: Any) -> Publisher:
        """What publishes the source's events, as one process would."""
        parts = {
            "product": "shop",
            "module": "orders",
            "outbox": self.source.outbox,
            "queue": self.source.queue,
            "broker": broker or self.broker,
            "topics": TOPICS,
            "codec": CODEC,
            "clock": self.source.clock,
            **fields,
        }
        return Publisher(PublishingParts(**parts), self.worker)

    @property
    def worker(self) -> Worker:
        return self.crew.workers[0] if self.crew.workers else self.crew.worker()

    def log(self, broker: Broker | None = None, name: str = "Placed") -> BrokerLog:
        made = BrokerLog(
            BrokerLogParts(
                module="orders",
                topic=TOPIC,
                topics=TOPICS,
                broker=broker or self.broker,
                log=self.source.outbox,
                codec=CODEC,
                names=frozenset({name}),
                on_news=self.news.set,
            )
        )
        self.logs.append(made)
        return made

    def relay(self, log: BrokerLog | None = None, **limits: Any) -> Relay:
        parts = RelayParts(
            module="shop",
            queue=self.crew.bench.queue,
            sources={"orders": log or self.log()},
            worker=self.worker,
            clock=self.crew.bench.clock,
            stop=Stop("relay"),
            limits=RelayLimits(poll_s=60, **limits),
        )
        return Relay(parts, [WORK])

    async def reach(self, relay: Relay, position: int) -> None:
        """Let a relay carry until it has come to a position."""
        async with asyncio.timeout(20):
            while True:
                self.news.clear()
                while await relay.step():
                    pass
                if relay.position(WORK.key) >= position:
                    return
                await self.news.wait()

    async def queued(self) -> list[str]:
        found: list[str] = []
        after = 0
        while page := await self.crew.bench.queue.entries(
            state=None, handler=None, after=after, limit=500
        ):
            found += [entry.message_id for entry in page]
            after = page[-1].id
        return found

    @property
    def all(self) -> list[str]:
        """What is to be in the queue, in order."""
        return [f"m{n}" for n in range(self.told)]
