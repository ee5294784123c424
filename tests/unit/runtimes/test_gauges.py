"""What a host tells of its queues, relays and databases, and that the page about it says so."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.service import RemoteService
from tenfold.adapters.memory.limits import MemoryCounter
from tenfold.adapters.postgres.pool import PoolStatistics
from tenfold.adapters.postgres.replicas import ReplicaState
from tenfold.observe.door import door_metrics
from tenfold.observe.metrics import render_gauges, render_metrics
from tenfold.observe.services import service_metrics
from tenfold.path.backlogs import Backlogs
from tenfold.path.door import Door
from tenfold.path.limits import RateLimits
from tenfold.path.shedding import Shedder, SheddingSettings
from tenfold.path.splitting import SplitCounts, SplitPeer
from tenfold.ports.clock import RandomIds
from tenfold.ports.peers import OperationStatistics, Outgoing, Returned, ServiceStatistics
from tenfold.runtimes.database_gauges import pool_metrics, replica_metrics
from tenfold.runtimes.gathering import Gathering
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.host import Host
from tenfold.runtimes.restarts import ProcessState
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import DatabaseSettings
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.clock import HeldClock
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule

pytestmark = pytest.mark.anyio
Said = list[tuple[ProcessState, str | None]]
_BY_TOPOLOGY = (
    r"`(tenfold_(?:process|service|outbox_horizon|pool|replica|shedding|limits|backlog)_\w+)"
)
SEEN = ServiceStatistics(
    service="bank",
    outstanding=4,
    endpoints={"well": 2, "returning": 0, "out": 1},
    retries=2,
    hedges=3,
    unbudgeted=1,
    operations=(
        OperationStatistics(target="ledger.pay", outcomes={"answered": 7}, circuit="half_open"),
    ),
)
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(
        name="bank",
        root=tmp_path,
        modules={"ledger": LedgerModule, "audit": AuditModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(),
    )


async def test_gauges_tell_of_every_module_and_the_page_of_every_gauge(product: Product) -> None:
    host = Host(product, data_dir=product.root / "data", create_tables=True)
    await host.start()
    try:
        await host.proxy(Ledger).deposit("a", 5)
        await host.idle()
        text = render_metrics([], await Gauges(host).read()).decode()
    finally:
        await host.stop()
    assert 'tenfold_queue_entries{module="ledger",state="dead"} 0.0' in text
    assert 'tenfold_outbox_head_events{module="ledger"} 1.0' in text
    assert 'tenfold_database_healthy{module="audit"} 1.0' in text
    assert "tenfold_calls_in_flight 0.0" in text
    told = set(re.findall(r"^# TYPE (tenfold_\w+)", text, re.MULTILINE)) - {"tenfold_stop_seconds"}
    assert told == set(re.findall(r"^\| (tenfold_\w+) \|", PAGE.read_text("utf-8"), re.MULTILINE))


class Elsewhere:
    """The service that has a module too."""

    def __init__(self) -> None:
        self.seen: list[Outgoing] = []

    async def call(self, outgoing: Outgoing) -> Returned:
        self.seen.append(outgoing)
        return Returned(value=7)


async def test_a_module_that_is_split_is_called_here_and_there_and_its_share_is_told(
    product: Product,
) -> None:
    there = Elsewhere()
    split = SplitPeer(there, 0.0)
    host = Host(
        product, data_dir=product.root / "data", create_tables=True, splits={"ledger": split}
    )
    await host.start()
    try:
        ledger = host.proxy(Ledger)
        await ledger.deposit("a", 5)
        await host.idle()
        split.share = 1.0
        assert await ledger.balance("a") == 7
        assert [each.operation.name for each in there.seen] == ["balance"]
        split.share = 0.0
        assert await ledger.balance("a") == 5
        assert split.counts == SplitCounts(service=1, here=2)
        text = render_metrics([], await Gauges(host).read()).decode()
        assert 'tenfold_split_share{module="ledger"} 0.0' in text
    finally:
        await host.stop()


async def test_databases_are_not_asked_at_every_scrape(product: Product) -> None:
    clock = HeldClock()
    host = Host(product, data_dir=product.root / "data", clock=clock, create_tables=True)
    await host.start()
    try:
        gauges = Gauges(host)

        async def head() -> float:
            found = await gauges.read()
            return next(
                g.value
                for g in found
                if (g.name, g.labels) == ("outbox_head_events", {"module": "ledger"})
            )

        assert await head() == 0
        await host.proxy(Ledger).deposit("a", 5)
        assert await head() == 0
        clock.jump(5)
        assert await head() == 1
    finally:
        await host.stop()


async def test_the_page_tells_of_what_only_some_topologies_have() -> None:
    shedder = Shedder(SheddingSettings(), HeldClock())
    backlogs = Backlogs({"ledger": 5}, {}, {})
    rates = RateLimits(
        {},
        shared=None,
        fallback=MemoryCounter(HeldClock()),
        processes=1,
        clock=HeldClock(),
        ids=RandomIds(),
    )
    statistics = PoolStatistics(size=5, open=4, idle=1, waiting=2, connected=7, lost=3, failed=6)
    state = ReplicaState(name="replica-1", well=True, replayed=9, lag_s=0.5)
    found = [
        *door_metrics(Door({}, shedder=shedder, rates=rates, backlogs=backlogs)),
        *pool_metrics("primary", statistics),
        *replica_metrics(state),
        *service_metrics(SEEN),
    ]
    process = ProcessState(name="web-1", role=Role.WEB, state="ready", pid=1, restarts=2)
    text = render_metrics([], found).decode() + await Gathering(said(process, None)).text()
    assert 'tenfold_pool_connections{pool="primary",state="lent"} 3.0' in text
    assert 'tenfold_pool_changes_total{event="lost",pool="primary"} 3.0' in text
    assert 'tenfold_backlog_full{module="ledger"} 0.0' in text
    answered = 'tenfold_service_calls_total{outcome="answered",service="bank",target="ledger.pay"}'
    assert f"{answered} 7.0" in text
    assert 'tenfold_service_connected_processes{service="bank",state="out"} 1.0' in text
    assert 'tenfold_service_repeated_calls_total{service="bank",why="hedges"} 3.0' in text
    assert 'tenfold_service_circuit_open{service="bank",target="ledger.pay"} 1.0' in text
    assert 'tenfold_process_up{process="web-1"} 0.0' in text
    assert 'tenfold_process_restarts_total{process="web-1"} 2.0' in text
    told = set(re.findall(r"^# TYPE (tenfold_\w+)", text, re.MULTILINE)) - {"tenfold_stop_seconds"}
    page = set(re.findall(_BY_TOPOLOGY, PAGE.read_text("utf-8")))
    assert told | {"tenfold_outbox_horizon_age_seconds"} == page


def said(process: ProcessState, text: str | None) -> Callable[[float], Awaitable[Said]]:
    async def measure(within_s: float) -> Said:
        return [(process, text)]

    return measure


async def test_on_postgresql_connections_and_the_horizon_are_told(
    product: Product, postgres_url: str
) -> None:
    database = DatabaseSettings(kind="postgres", url=postgres_url)
    shared = msgspec.structs.replace(product, topology=Topology(database=database))
    host = Host(shared, data_dir=product.root / "data", create_tables=True)
    await host.start()
    try:
        await host.proxy(Ledger).deposit("a", 5)
        gauges = Gauges(host)
        own = render_gauges(gauges.own()).decode()
        stored = render_gauges(await gauges.stored()).decode()
    finally:
        await host.stop()
    assert 'tenfold_pool_connections{pool="primary",state="idle"}' in own
    assert "tenfold_shedding_limit_messages" in own
    # The horizon is the whole server's, and other tests' transactions stand before it too.
    assert re.search(r"^tenfold_outbox_horizon_age_seconds \d+\.\d+$", stored, re.MULTILINE)
    assert 'tenfold_queue_entries{module="ledger",state="due"}' in stored
    names = r"^# TYPE (\w+)"
    assert not set(re.findall(names, own, re.MULTILINE)) & set(
        re.findall(names, stored, re.MULTILINE)
    )


async def test_a_process_tells_of_the_services_that_it_calls_each_once(product: Product) -> None:
    service = RemoteService("bank", Fixed({}, links=1))
    host = Host(product, data_dir=product.root, peers=dict.fromkeys(product.modules, service))
    await host.start()
    try:
        found = [gauge for gauge in Gauges(host).own() if gauge.name == "service_outstanding_calls"]
        assert [gauge.labels for gauge in found] == [{"service": "bank"}]
    finally:
        await host.stop()


async def test_the_relay_counts_by_the_events_full_name_and_the_module(product: Product) -> None:
    host = Host(product, data_dir=product.root / "data", create_tables=True)
    await host.start()
    try:
        await host.proxy(Ledger).deposit("a", 5)
        await host.idle()
    finally:
        await host.stop()
    labels = {count.label for count in host.stops.relay.snapshot()}
    assert labels == {"ledger.Deposited -> audit", "ledger.Deposited -> ledger"}
