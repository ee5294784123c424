"""The generations of a projection on PostgreSQL: their tables, and what goes with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, UniqueConstraint

from tenfold.adapters.postgres.generations import PostgresGenerations
from tenfold.ports.projections import GenerationState
from tenfold.tables.columns import Uuid, metadata, tenant
from tenfold.tables.errors import GenerationError, TableDeclarationError
from tenfold.tables.search import SearchIndex
from tests.conformance.postgres_log import LogBench

pytestmark = pytest.mark.anyio

ENTRY = """
INSERT INTO {s}.tenfold_queue (waits, priority, lane, run_at, handler, generation, tenant,
    message_id, source, source_seq, body)
VALUES (1, 0, 'lane', now(), $1, $2, 'main', 'm', 'orders', 7, '')
"""
PLACE = (
    "INSERT INTO {s}.tenfold_positions (handler, generation, source, seq) VALUES ($1, $2, 'o', 7)"
)


def history(*more: Column[Any], name: str = "history") -> Table:
    table = Table(
        name,
        metadata(),
        tenant(),
        Column("id", Uuid(), primary_key=True),
        Column("name", Text),
        *more,
        UniqueConstraint("tenant", "name"),
        Index(None, "tenant", "name", "id"),
    )
    SearchIndex(f"{name}_search", table.c.name)
    return table


class Shop:
    """A module `shop` with the projection `past`."""

    def __init__(self, url: str) -> None:
        self.bench = LogBench(url)
        self.generations = self.of(history())

    def of(self, *tables: Table) -> PostgresGenerations:
        return PostgresGenerations(self.bench.session, "shop", {"past": list(tables)})

    async def ensure(self, generations: PostgresGenerations | None = None) -> list[str]:
        return await (generations or self.generations).ensure(await self.bench.session.connect())

    async def fetch(self, text: str, *values: Any) -> list[Any]:
        return await self.bench.session.read(lambda c: c.fetch(text.format(s="shop"), *values))

    async def names(self) -> set[str]:
        found = await self.fetch(
            "SELECT relname FROM pg_class WHERE relnamespace = 'shop'::regnamespace"
        )
        return {row[0] for row in found if row[0].startswith("history")}

    async def leave_traces(self, handler: str, generation: int) -> None:
        for text in (ENTRY, PLACE):
            await self.fetch(text, handler, generation)

    async def traces(self) -> set[tuple[str, int]]:
        found = await self.fetch(
            "SELECT handler, generation FROM {s}.tenfold_queue"
            " UNION ALL SELECT handler, generation FROM {s}.tenfold_positions"
        )
        return {(row[0], row[1]) for row in found}


@pytest.fixture
async def shop(postgres_url: str) -> AsyncIterator[Shop]:
    made = Shop(postgres_url)
    await made.bench.open()
    assert await made.ensure() == []
    yield made
    await made.bench.close()


async def test_the_first_start_makes_generation_one_with_its_indexes(shop: Shop) -> None:
    assert await shop.generations.state() == {"past": GenerationState(active=1)}
    assert await shop.names() == {
        "history__1",
        "history_key__1",
        "history_tenant_name_unique__1",
        "history_tenant_name_id_index__1",
        "history_search__1_name",
    }
    assert await shop.ensure() == []


async def test_many_processes_that_start_at_once_make_it_once(postgres_url: str) -> None:
    shop = Shop(postgres_url)
    await shop.bench.open()
    assert await asyncio.gather(*(shop.ensure(shop.of(history())) for _ in range(8))) == [[]] * 8
    assert "history__1" in await shop.names()
    await shop.bench.close()


async def test_a_rebuild_has_tables_of_its_own_and_the_old_ones_are_dropped_after_the_swap(
    shop: Shop,
) -> None:
    assert await shop.generations.begin("past") == 2
    assert await shop.generations.state() == {"past": GenerationState(active=1, building=2)}
    assert {"history__1", "history__2"} <= await shop.names()
    for handler, generation in (("past.placed", 1), ("past.placed", 2), ("pastime.placed", 1)):
        await shop.leave_traces(handler, generation)
    await shop.generations.swap("past", 2)
    assert await shop.generations.state() == {"past": GenerationState(active=2)}
    assert "history__1" in await shop.names()
    await shop.generations.drop("past", 1)
    assert not {name for name in await shop.names() if "__1" in name}
    assert await shop.traces() == {("past.placed", 2), ("pastime.placed", 1)}


async def test_an_abandoned_generation_leaves_nothing_and_its_number_is_not_used_again(
    shop: Shop,
) -> None:
    await shop.generations.begin("past")
    await shop.leave_traces("past.placed", 2)
    await shop.generations.drop("past", 2)
    assert await shop.generations.state() == {"past": GenerationState(active=1)}
    assert not {name for name in await shop.names() if "__2" in name}
    assert await shop.traces() == set()
    assert await shop.generations.begin("past") == 3


async def test_begun_again_the_unfinished_generation_is_dropped(shop: Shop) -> None:
    await shop.generations.begin("past")
    assert await shop.generations.begin("past") == 3
    assert not {name for name in await shop.names() if "__2" in name}


async def test_only_the_one_being_built_is_swapped_in_and_the_one_that_answers_stays(
    shop: Shop,
) -> None:
    with pytest.raises(GenerationError, match="not the one being built"):
        await shop.generations.swap("past", 1)
    with pytest.raises(GenerationError, match="answers, so it cannot be dropped"):
        await shop.generations.drop("past", 1)
    with pytest.raises(GenerationError, match="This module has: past"):
        await shop.generations.begin("future")


async def test_what_was_swapped_out_and_not_dropped_is_dropped_by_who_rebuilds(
    shop: Shop,
) -> None:
    await shop.leave_traces("past.placed", 1)
    await shop.generations.swap("past", await shop.generations.begin("past"))
    assert await shop.ensure() == []
    assert {"history__1", "history__2"} <= await shop.names()
    assert await shop.generations.tidy() == []
    assert not {name for name in await shop.names() if "__1" in name}
    assert await shop.traces() == set()
    await shop.generations.drop("past", 1)


async def test_places_of_generations_that_are_gone_are_forgotten_by_who_rebuilds(
    shop: Shop,
) -> None:
    await shop.generations.swap("past", await shop.generations.begin("past"))
    await shop.generations.drop("past", 1)
    for generation in (1, 2):  # as by a relay that did not know yet
        await shop.fetch(PLACE, "past.placed", generation)
    assert await shop.generations.tidy() == []
    assert await shop.traces() == {("past.placed", 2)}


async def test_a_build_of_another_shape_is_dropped_by_who_rebuilds_and_reported(
    shop: Shop,
) -> None:
    assert await shop.generations.begin("past") == 2
    changed = shop.of(history(Column("size", Integer)))
    assert await shop.ensure(changed) == ["past"]
    # Another version's process may be building it: a start alone drops nothing.
    assert await changed.state() == {"past": GenerationState(active=1, building=2)}
    assert await changed.tidy() == ["past"]
    assert await changed.state() == {"past": GenerationState(active=1)}
    assert not {name for name in await shop.names() if "__2" in name}
    assert await changed.begin("past") == 3
    assert await shop.ensure(changed) == []
    assert await changed.tidy() == []
    assert await changed.state() == {"past": GenerationState(active=1, building=3)}


async def test_a_changed_shape_is_reported_until_it_was_rebuilt(shop: Shop) -> None:
    changed = shop.of(history(Column("size", Integer)))
    assert await shop.ensure(changed) == ["past"]
    await changed.swap("past", await changed.begin("past"))
    assert await shop.ensure(changed) == []
    assert await shop.ensure() == ["past"]


async def test_entries_parked_behind_a_dropped_one_are_woken(shop: Shop) -> None:
    building = await shop.generations.begin("past")
    await shop.leave_traces("past.placed", 1)
    await shop.leave_traces("past.placed", building)
    await shop.fetch("UPDATE {s}.tenfold_queue SET waits = 3 WHERE generation = $1", building)
    await shop.generations.swap("past", building)
    await shop.generations.drop("past", 1)
    assert [row[0] for row in await shop.fetch("SELECT waits FROM {s}.tenfold_queue")] == [4]


async def test_a_projection_that_cannot_be_kept_is_refused(shop: Shop) -> None:
    with pytest.raises(TableDeclarationError, match="declares no tables"):
        shop.of()
    collection = metadata()
    Table("parents", collection, Column("id", Integer, primary_key=True))
    child = Table("children", collection, Column("id", ForeignKey("parents.id"), primary_key=True))
    with pytest.raises(TableDeclarationError, match="foreign key"):
        shop.of(child)
    with pytest.raises(TableDeclarationError, match="too long for PostgreSQL"):
        shop.of(history(name="history_of_everything_that_was_ever_seen"))
