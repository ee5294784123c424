"""Two hosts on one PostgreSQL, as two processes are: one answers calls, one works and leads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.path.entry import Incoming, Reply
from tenfold.runtimes.host import Host
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import DatabaseSettings
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule, LedgerModule
from tenfold.testing.unit_suite import AUDITOR

pytestmark = pytest.mark.anyio


def make_host(folder: Path, url: str) -> Host:
    product = Product(
        name="probe",
        root=folder,
        modules={"ledger": LedgerModule, "audit": AuditModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(name="growth", database=DatabaseSettings(kind="postgres", url=url)),
    )
    return Host(product, data_dir=folder, create_tables=True)


class Pair:
    """A process that answers calls, and one that works."""

    def __init__(self, folder: Path, url: str) -> None:
        self.web = make_host(folder, url)
        self.worker = make_host(folder, url)

    async def start(self) -> None:
        await self.web.start(Role.WEB)
        await self.worker.start(Role.WORKER)

    async def stop(self) -> None:
        await self.web.stop(drain_s=1)
        await self.worker.stop(drain_s=1)

    async def call(self, operation: str, *, position: str | None = None, **given: Any) -> Reply:
        spec = self.web.operations[operation]
        return await self.web.entry.call(
            Incoming(
                operation=spec,
                arguments=spec.arguments(**given),
                principal=AUDITOR,
                internal=True,
                position=position,
            )
        )


@pytest.fixture
async def pair(tmp_path: Path, postgres_url: str) -> AsyncIterator[Pair]:
    made = Pair(tmp_path, postgres_url)
    await made.start()
    yield made
    await made.stop()


async def test_what_one_commits_the_other_works_without_waiting_for_a_poll(pair: Pair) -> None:
    await pair.call("ledger.deposit", account="warm", amount=1, then="")
    await pair.web.idle()
    began = time.monotonic()
    await pair.call("ledger.deposit", account="a", amount=5, then="")
    await pair.web.idle()
    # Polling alone would take two seconds for the log, and five for each queue.
    assert time.monotonic() - began < 1.9
    assert await pair.web.proxy(Audit).notes("a") == ["deposited 5"]


async def test_a_caller_reads_its_writes_from_projections_that_another_process_keeps(
    pair: Pair,
) -> None:
    for amount in range(1, 6):
        reply = await pair.call("ledger.deposit", account="a", amount=amount, then="")
        seen = await pair.call("audit.total", account="a", position=reply.position)
        assert (seen.value, seen.behind) == (sum(range(1, amount + 1)), False)


async def test_a_rebuild_that_one_asks_for_the_other_does_and_both_answer_from(
    pair: Pair,
) -> None:
    await pair.web.proxy(Ledger).deposit("a", 5)
    await pair.web.idle()
    generation = await pair.web.rebuild("audit", "totals")
    async with asyncio.timeout(30):
        while (await pair.web.modules["audit"].generations.state())["totals"].active != generation:
            await asyncio.sleep(0.02)
    assert await pair.web.proxy(Audit).total("a") == 5
    await pair.web.proxy(Ledger).deposit("a", 2)
    await pair.web.idle()
    assert await pair.web.proxy(Audit).total("a") == 7


async def test_a_running_entry_is_cancelled_from_another_process(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, forever = asyncio.Event(), asyncio.Event()

    async def never_ends(self: Any, account: str, text: str) -> None:
        began.set()
        await forever.wait()

    compiled = pair.worker.delivery("ledger")._handlers["note_later"]

    async def call(payload: Any) -> None:
        await never_ends(None, payload.account, payload.text)

    monkeypatch.setattr(compiled, "call", call)
    await pair.web.proxy(Ledger).start_job("a", "never")
    await asyncio.wait_for(began.wait(), 20)
    queue = pair.web.modules["ledger"].queue
    (running,) = await queue.entries(state="running", handler="note_later", after=0, limit=10)
    assert await pair.web.cancel("ledger", running.id)
    async with asyncio.timeout(20):
        while (view := await queue.entry(running.id)) is None or view.state != "dead":
            await asyncio.sleep(0.02)
    assert view.last_error == "Cancelled by hand."
    assert not await pair.web.cancel("ledger", running.id)


async def test_when_the_leader_stops_another_leads(tmp_path: Path, pair: Pair) -> None:
    other = make_host(tmp_path, pair.web.product.topology.database.url)
    await other.start(Role.WORKER)
    try:
        await pair.worker.stop(drain_s=1)
        await pair.web.proxy(Ledger).deposit("a", 5)
        async with asyncio.timeout(20):
            await pair.web.idle()
        assert await pair.web.proxy(Audit).total("a") == 5
    finally:
        await other.stop(drain_s=1)


async def test_the_seed_runs_once_for_all(pair: Pair) -> None:
    runs: list[str] = []

    async def seed() -> None:
        runs.append("run")
        await asyncio.sleep(0.05)

    await asyncio.gather(pair.web.once("seeded", seed), pair.worker.once("seeded", seed))
    await pair.web.once("seeded", seed)
    assert runs == ["run"]


async def test_a_seed_that_failed_runs_again(pair: Pair) -> None:
    async def fails() -> None:
        raise RuntimeError("half way")

    runs: list[str] = []

    async def seed() -> None:
        runs.append("run")

    with pytest.raises(RuntimeError):
        await pair.web.once("seeded", fails)
    await pair.worker.once("seeded", seed)
    assert runs == ["run"]
