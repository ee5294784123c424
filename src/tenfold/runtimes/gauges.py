"""What a running host measures beside the stops: its own, and what stands in databases."""

from __future__ import annotations

import asyncio

from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.errors import TenfoldError
from tenfold.observe.door import door_metrics
from tenfold.observe.metrics import Counter, Gauge
from tenfold.observe.services import service_metrics
from tenfold.ports.records import Backlog
from tenfold.runtimes.host import Host

__all__ = ["Gauges"]

_KEPT_S = 5.0
_WAIT_S = 1.0
_OUTCOMES = ("done", "retried", "dead", "returned", "unknown", "lost")


class Gauges:
    """The gauges and counters of one host.

    Those of the process are its own. What is read from databases is the same in
    every process, so that one of several tells it; it is kept for some seconds, so
    that nobody loads them by asking often. A database that does not answer is left out.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._kept: dict[str, tuple[Backlog, int]] = {}
        self._horizon_s: float | None = None
        self._read_s: float | None = None
        self._reading = asyncio.Lock()

    async def read(self) -> list[Gauge | Counter]:
        """All of them, for a process that is the only one."""
        return [*self.own(), *await self.stored()]

    def own(self) -> list[Gauge | Counter]:
        """What this process does, holds and sees, as of now."""
        host = self._host
        found: list[Gauge | Counter] = [
            Gauge(
                name="calls_in_flight",
                help="Calls from outside that are being carried.",
                value=host.in_flight,
            )
        ]
        if host.door is not None:
            found += door_metrics(host.door)
        if host.caches is not None:
            found += host.caches.metrics()
        called = [*host.peers.values(), *(split.service for split in host.splits.values())]
        for service in {id(peer): peer for peer in called}.values():
            if isinstance(service, RemoteService):
                found += service_metrics(service.statistics())
        found += [
            Gauge(
                name="split_share",
                help="The share of the module's calls that go to its service, as it is split.",
                value=split.share,
                labels={"module": module},
            )
            for module, split in host.splits.items()
        ]
        found += host.stores.metrics()
        if host.brokered is not None:
            found += host.brokered.metrics()
        for name in host.modules:
            found += self._of_process(name)
        return found

    async def stored(self) -> list[Gauge | Counter]:
        """What stands in the databases, as of now or some seconds ago."""
        async with self._reading:
            now_s = self._host.clock.monotonic()
            if self._read_s is None or now_s - self._read_s >= _KEPT_S:
                names = list(self._host.modules)
                self._horizon_s, found = await asyncio.gather(
                    self._horizon(), asyncio.gather(*(self._stored(name) for name in names))
                )
                pairs = zip(names, found, strict=True)
                self._kept = {name: item for name, item in pairs if item is not None}
                self._read_s = now_s
        held: list[Gauge | Counter] = []
        if self._horizon_s is not None:
            held.append(
                Gauge(
                    name="outbox_horizon_age_seconds",
                    help="For how long an open transaction has held up the reading of outboxes.",
                    value=self._horizon_s,
                )
            )
        for name, (backlog, head) in self._kept.items():
            held += self._of_database(name, backlog, head)
        return held

    async def _horizon(self) -> float | None:
        try:
            async with asyncio.timeout(_WAIT_S):
                return await self._host.stores.horizon_age_s()
        except (TenfoldError, TimeoutError):
            return None

    async def _stored(self, module: str) -> tuple[Backlog, int] | None:
        runtime = self._host.modules[module]
        try:
            async with asyncio.timeout(_WAIT_S):
                return await runtime.queue.backlog(), await runtime.outbox.head()
        except (TenfoldError, TimeoutError):
            return None  # whether it is well is a gauge of its own

    def _of_process(self, module: str) -> list[Gauge | Counter]:
        labels = {"module": module}
        counts = self._host.worker(module).counts
        relay = self._host.relay(module)
        return [
            Gauge(
                name="database_healthy",
                help="1 while the module's database writes, 0 once it has failed.",
                value=float(self._host.database_healthy(module)),
                labels=labels,
            ),
            Counter(
                name="relay_delivered_entries",
                help="Entries that the relay put into the module's queue.",
                value=0 if relay is None else relay.delivered,
                labels=labels,
            ),
            *(
                Counter(
                    name="queue_worked_entries",
                    help="Entries that the module's worker has claimed, by what became of them.",
                    value=getattr(counts, outcome),
                    labels={**labels, "outcome": outcome},
                )
                for outcome in _OUTCOMES
            ),
        ]

    def _of_database(self, module: str, backlog: Backlog, head: int) -> list[Gauge | Counter]:
        labels = {"module": module}
        oldest = backlog.oldest_due_at
        age_s = 0.0 if oldest is None else (self._host.clock.now() - oldest).total_seconds()
        return [
            *(
                Gauge(
                    name="queue_entries",
                    help="Unfinished entries: due (or running), later, dead.",
                    value=number,
                    labels={**labels, "state": state},
                )
                for state, number in (
                    ("due", backlog.due),
                    ("later", backlog.later),
                    ("dead", backlog.dead),
                )
            ),
            Gauge(
                name="queue_oldest_due_seconds",
                help="How long the first in line has been due.",
                value=max(age_s, 0.0),
                labels=labels,
            ),
            Gauge(
                name="outbox_head_events",
                help="The position of the newest event in the module's outbox.",
                value=head,
                labels=labels,
            ),
        ]
