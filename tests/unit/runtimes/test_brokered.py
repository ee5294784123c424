"""Two services on one database, whose events go by a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tenfold.adapters.memory.broker import MemoryBroker
from tenfold.contracts.errors import UserMistakeError
from tenfold.path.broker_log import BrokerLog
from tenfold.path.publishing import publisher_feed
from tenfold.ports.broker import BrokerSettings
from tenfold.ports.peers import Outgoing, Returned
from tenfold.runtimes.gauges import Gauges
from tenfold.runtimes.host import Host
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import DatabaseSettings
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule
from tests.unit.topology.test_growth import mistake, read

pytestmark = pytest.mark.anyio


class Nobody:
    """Answers for the modules of the other service, which nobody calls here."""

    async def call(self, outgoing: Outgoing) -> Returned:
        raise AssertionError(f"{outgoing.operation.name} was called")


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> MemoryBroker:
    made = MemoryBroker()

    def open_it(settings: BrokerSettings) -> MemoryBroker:
        return made

    monkeypatch.setattr("tenfold.runtimes.host.open_broker", open_it)
    return made


def service(url: str, folder: Path, name: str) -> Host:
    """A process of the service that hosts one module of the probe."""
    product = Product(
        name="probe",
        root=folder,
        modules={"ledger": LedgerModule, "audit": AuditModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(
            database=DatabaseSettings(kind="postgres", url=url),
            broker=BrokerSettings(url="nats://somewhere"),
        ),
    )
    peers = {other: Nobody() for other in ("ledger", "audit") if other != name}
    return Host(product, data_dir=folder, create_tables=True, peers=peers, service=name)


@pytest.fixture
async def services(
    broker: MemoryBroker, postgres_url: str, tmp_path: Path
) -> AsyncIterator[list[Host]]:
    made = [service(postgres_url, tmp_path, name) for name in ("ledger", "audit")]
    for host in made:
        await host.start(Role.ALL)
    yield made
    for host in made:
        await host.stop()


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await holds():
            await asyncio.sleep(0.005)


async def test_events_of_another_service_come_by_the_broker(
    services: list[Host], broker: MemoryBroker
) -> None:
    ledger, audit = services[0].proxy(Ledger), services[1].proxy(Audit)
    for amount in range(1, 6):
        await ledger.deposit("a", amount)
    await ledger.meter("b", [1, 2, 3])

    async def there() -> bool:
        noted = ",".join(await audit.notes("b"))
        return len(await audit.notes("a")) == 5 and noted == "1,2,3"

    await until(there)
    assert await audit.notes("a") == [f"deposited {n}" for n in range(1, 6)]
    await until(lambda: projected(audit))
    assert sum(b.after for b in await broker.bounds("probe.ledger")) > 0
    relay = services[1].relay("audit")
    assert relay is not None
    source = relay._parts.sources["ledger"]
    assert isinstance(source, BrokerLog)
    assert not relay._parts.transfers


async def projected(audit: Audit) -> bool:
    return await audit.total("a") == 15


async def test_what_is_not_published_is_not_trimmed(
    services: list[Host], broker: MemoryBroker
) -> None:
    ledger = services[0].modules["ledger"]
    await services[0].proxy(Ledger).deposit("a", 1)

    async def noted() -> bool:
        places = await ledger.queue.positions()
        return places.get(publisher_feed("ledger").key) == await ledger.outbox.head() > 0

    await until(noted)


async def test_a_process_tells_what_it_published(services: list[Host]) -> None:
    await services[0].proxy(Ledger).meter("b", [1, 2, 3])

    async def counted() -> bool:
        found = {(m.name, m.labels.get("module")): m.value for m in Gauges(services[0]).own()}
        assert found["broker_failing", "ledger"] == 0
        return found["broker_published_events", "ledger"] == 3

    await until(counted)


async def test_the_reader_lets_go_of_the_broker_when_another_process_leads(
    services: list[Host],
) -> None:
    await services[0].proxy(Ledger).deposit("a", 1)
    audit = services[1].proxy(Audit)

    background = services[1]._background
    assert background.brokered is not None
    logs = background.brokered._logs

    async def there() -> bool:
        return bool(await audit.notes("a")) and any(log._cursors for log in logs)

    await until(there)
    await background._follow_again()
    assert not any(log._cursors for log in logs)


def test_a_broker_needs_services_to_stand_between(tmp_path: Path) -> None:
    text = '[topologies.growth.broker]\nurl = "nats://127.0.0.1:4222"\n'
    assert "a broker would have nothing to do" in mistake(tmp_path, text)
    services = '[topologies.growth.services.all]\nmodules = ["orders"]\n'
    assert read(tmp_path, text + services).broker.url == "nats://127.0.0.1:4222"


def test_the_brokers_address_may_come_from_outside(tmp_path: Path) -> None:
    services = '[topologies.growth.services.all]\nmodules = ["orders"]\n'
    topology = read(tmp_path, services, TENFOLD_BROKER_URL="kafka://k1:9092,k2:9092")
    assert topology.broker.url == "kafka://k1:9092,k2:9092"
    with pytest.raises(UserMistakeError, match="nothing to do"):
        read(tmp_path, "[topologies.growth]\n", TENFOLD_BROKER_URL="kafka://k1:9092")
