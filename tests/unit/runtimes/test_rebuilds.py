"""Rebuilds of a running product, and of one that starts: what fails there harms nobody else."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

import pytest
from sqlalchemy import CheckConstraint, Column, Integer, Table, Text

from tenfold import Database, Projection
from tenfold.tables.columns import metadata, tenant
from tenfold.testing.probe.modules import AuditModule, Totals
from tests.faults.probe import Probe

pytestmark = pytest.mark.anyio


class Unmakeable(Projection):
    """Has a table that SQLite refuses to make."""

    name = "totals"
    tables: ClassVar[tuple[Table, ...]] = (
        Table(
            "totals",
            metadata(),
            tenant(),
            Column("account", Text, primary_key=True),
            Column("total", Integer, nullable=False),
            CheckConstraint("no_such_column >= 0", name="wrong"),
        ),
    )
    db: Database
    deposited = Totals.deposited
    of = Totals.of


async def test_a_failed_rebuild_keeps_nobody_from_starting(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 666)
        await probe.host.idle()
        await probe.host.rebuild("audit", "totals")
        await probe.host.rebuilt("audit", "totals")
    async with asyncio.timeout(8), Probe(tmp_path) as probe:
        assert await probe.ledger.deposit("a", 1) == 667
        assert await probe.audit.total("a") == 0


async def test_tables_that_cannot_be_made_fail_the_rebuild_and_not_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 1)
        await probe.host.idle()
    monkeypatch.setitem(AuditModule.__annotations__, "totals", Unmakeable)
    async with asyncio.timeout(8), Probe(tmp_path) as probe:
        assert await probe.audit.total("a") == 1
        with pytest.raises(Exception, match="no_such_column"):
            await probe.host.rebuild("audit", "totals")


async def test_no_query_fails_while_generations_are_swapped(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 5)
        await probe.host.idle()
        seen: set[int] = set()
        ended = False

        async def look() -> None:
            while not ended:
                seen.add(await probe.audit.total("a"))

        lookers = [asyncio.create_task(look()) for _ in range(30)]
        for _ in range(5):
            await probe.host.rebuild("audit", "totals")
            await probe.host.rebuilt("audit", "totals")
        ended = True
        await asyncio.gather(*lookers)
        assert seen == {5}
        made = await probe.host.modules["audit"].generations.state()
        assert made["totals"].active == 6


async def test_a_rebuild_that_stands_still_is_begun_anew_when_asked(tmp_path: Path) -> None:
    async with Probe(tmp_path) as probe:
        await probe.ledger.deposit("a", 666)
        await probe.host.idle()
        first = await probe.host.rebuild("audit", "totals")
        await probe.host.rebuilt("audit", "totals")
        assert await probe.host.rebuild("audit", "totals", anew=True) == first + 1
        await probe.host.rebuilt("audit", "totals")
        state = (await probe.host.modules["audit"].generations.state())["totals"]
        assert (state.active, state.building) == (1, first + 1)
