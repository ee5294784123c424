"""A unit of work that loses again and again goes before those that it loses against."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from sqlalchemy import func, select

from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.adapters.postgres.precedence import LOSSES, Precedence
from tenfold.ports.unit import Unit
from tests.unit.postgres.bench import ADD, SIZE, WIDEN, Bench, inbox, opened

pytestmark = pytest.mark.anyio
_NAP = select(func.pg_sleep(0.03))


def unit(message_id: str, handler: str = "") -> Unit:
    made = Unit(message_id, "main", 0.0)
    if handler:
        made.inbox = msgspec.structs.replace(inbox(message_id), handler=handler)
    return made


def test_only_who_lost_often_enough_goes_first() -> None:
    precedence = Precedence('"shed"', 5.0)
    for _ in range(LOSSES - 1):
        precedence.note(unit("m"), ["things"])
    assert precedence.lock(unit("m")) is None
    precedence.note(unit("m"), ["parts"])
    assert precedence.lock(unit("other")) is None
    assert precedence.lock(unit("m", "another subscription")) is None
    assert precedence.lock(unit("m")) == (
        "SET LOCAL lock_timeout = 250;"
        ' LOCK TABLE "shed"."parts", "shed"."things" IN SHARE ROW EXCLUSIVE MODE;'
        " SET LOCAL lock_timeout = 5000"
    )
    precedence.forget(unit("m"))
    assert precedence.lock(unit("m")) is None


def test_who_wrote_nowhere_has_nothing_to_go_first_at() -> None:
    precedence = Precedence('"shed"', 5.0)
    for _ in range(LOSSES + 1):
        precedence.note(unit("m"), [])
    assert precedence.lock(unit("m")) is None


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_long_unit_comes_to_its_end_beside_many_short_ones(
    postgres_url: str, awaited: bool
) -> None:
    """The short ones come from a process of their own, whose turns this one does not see."""
    over = asyncio.Event()

    async def short(db: PostgresDatabase) -> None:
        await db.execute(WIDEN, name="a", by=1)

    async def long(db: PostgresDatabase) -> None:
        await db.one(SIZE, name="a")  # its snapshot
        await db.value(_NAP)
        if awaited:
            await db.execute(WIDEN, name="a", by=1_000_000)
        else:
            db.buffer(WIDEN, name="a", by=1_000_000)

    async def keep_busy(bench: Bench) -> int:
        count = 0
        while not over.is_set():
            await bench.carry(short)
            count += 1
        return count

    async with opened(postgres_url) as one, opened(postgres_url, make=False) as other:
        await one.carry(lambda db: db.execute(ADD, name="a", size=0))
        busy = [asyncio.create_task(keep_busy(other)) for _ in range(4)]
        one.begun = 0
        await one.carry(long)
        begun = one.begun
        over.set()
        count = sum(await asyncio.gather(*busy))
        assert begun > LOSSES, "nothing contended, so nothing was shown"
        assert begun < LOSSES + 4
        assert await one.ask(SIZE, name="a") == 1_000_000 + count
