"""What a host tells of its queues, relays and databases, and that the page about it says so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenfold.observe.metrics import render_metrics
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.clock import HeldClock
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule

pytestmark = pytest.mark.anyio
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
