"""Units of work on PostgreSQL: what is sent, what commits, and what leaves nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.adapters.postgres.errors import UnitTooLargeError
from tenfold.contracts.errors import AwaitInsideUnitOfWorkError, LeaseLostError
from tenfold.ports.unit import CURRENT, Unit, current_message
from tenfold.testing.clock import HeldClock
from tests.unit.postgres.bench import (
    ADD,
    ADD_PART,
    ALL,
    COUNT,
    SIZE,
    WIDEN,
    Bench,
    Taken,
    entry,
    event,
    inbox,
    opened,
    reply_key,
)
from tests.unit.postgres.proxy import Proxy

pytestmark = pytest.mark.anyio

EVENTS = "SELECT array_agg(name ORDER BY seq) FROM shed.tenfold_outbox"


def unit() -> Unit:
    found = current_message().unit
    assert found is not None
    return found


async def nothing(db: PostgresDatabase) -> None:
    """A handler without a statement."""


# --- What is sent --------------------------------------------------------------------------------


async def test_what_was_handed_over_is_one_statement_and_one_round_trip(
    proxied: Bench, proxy: Proxy
) -> None:
    async def gathered(db: PostgresDatabase) -> str:
        db.buffer(ADD, name=f"a{proxied.begun}", size=1)
        db.buffer(ADD_PART, name=f"p{proxied.begun}", thing=f"t{proxied.begun}")
        unit().events.append(event())
        unit().entries.append(entry())
        return "done"

    def keyed(made: Unit) -> None:
        made.reply_key = reply_key(proxied.clock, f"k-{proxied.begun}")
        made.inbox = inbox(f"m-{proxied.begun}")
        made.encode_reply = str.encode

    await proxied.carry(gathered, change=keyed)  # prepares the statement
    before = proxy.trips
    result = await proxied.carry(gathered, change=keyed)
    assert proxy.trips - before == 1
    assert result.value == "done"
    assert await proxied.sql("SELECT count(*) FROM shed.things") == 2
    assert await proxied.sql("SELECT count(*) FROM shed.parts") == 2
    assert await proxied.sql("SELECT count(*) FROM shed.tenfold_inbox") == 2
    assert await proxied.sql("SELECT count(*) FROM shed.tenfold_queue WHERE waits = 1") == 2
    assert await proxied.sql("SELECT body FROM shed.tenfold_replies LIMIT 1") == b"done"
    told = "SELECT count(*) FROM shed.tenfold_replies JOIN shed.tenfold_outbox ON seq = position"
    assert await proxied.sql(told) == 2
    assert await proxied.sql("SELECT max(seq) FROM shed.tenfold_outbox") == result.position


async def test_an_awaited_write_makes_it_four(proxied: Bench, proxy: Proxy) -> None:
    async def awaited(db: PostgresDatabase) -> None:
        await db.execute(ADD, name=f"a{proxied.begun}", size=1)
        unit().events.append(event())

    await proxied.carry(awaited)
    before = proxy.trips
    await proxied.carry(awaited)
    assert proxy.trips - before == 4
    assert await proxied.sql("SELECT count(*) FROM shed.things") == 2


async def test_a_unit_that_has_nothing_to_commit_asks_for_nothing(
    proxied: Bench, proxy: Proxy
) -> None:
    def from_the_queue(made: Unit) -> None:
        made.inbox, made.fence = inbox(), 17

    before = proxy.trips
    await proxied.carry(nothing, change=from_the_queue)
    assert proxy.trips == before


async def test_a_query_is_one_round_trip(proxied: Bench, proxy: Proxy) -> None:
    await proxied.ask(COUNT)
    before = proxy.trips
    assert await proxied.ask(COUNT) == 0
    assert proxy.trips - before == 1


async def test_writes_on_one_table_are_done_in_their_order(bench: Bench) -> None:
    async def gathered(db: PostgresDatabase) -> None:
        db.buffer(ADD, name="a", size=1)
        db.buffer(ADD_PART, name="p", thing="t")
        db.buffer(WIDEN, name="a", by=4)
        db.buffer(ADD, name="b", size=7)
        db.buffer(ADD, name="c", size=8)
        unit().events += [event("one"), event("two")]

    result = await bench.carry(gathered)
    assert await bench.sql("SELECT size FROM shed.things WHERE name = 'a'") == 5
    assert await bench.sql("SELECT count(*) FROM shed.things") == 3
    assert await bench.sql(EVENTS) == ["one", "two"]
    assert await bench.sql("SELECT max(seq) FROM shed.tenfold_outbox") == result.position
    assert bench.news[-1].head == result.position


async def test_many_events_and_entries_keep_their_order(bench: Bench) -> None:
    names = [f"e{n:03}" for n in range(300)]
    later = datetime.now(UTC) + timedelta(hours=1)

    async def publishing(db: PostgresDatabase) -> None:
        unit().events += [event(name) for name in names]
        unit().entries += [entry(), entry(run_at=later), entry("u"), entry("u")]

    await bench.carry(publishing)
    assert await bench.sql(EVENTS) == names
    waits = "SELECT array_agg(waits::int ORDER BY id) FROM shed.tenfold_queue"
    assert await bench.sql(waits) == [1, 2, 1]  # the second of one unique key is left out
    assert bench.news[-1].entries


async def test_a_unit_of_too_many_events_is_refused_as_a_whole(bench: Bench) -> None:
    async def publishing(db: PostgresDatabase) -> None:
        unit().events += [event()] * 65_536

    with pytest.raises(UnitTooLargeError, match="65,536 events"):
        await bench.carry(publishing)
    assert await bench.sql("SELECT count(*) FROM shed.tenfold_outbox") == 0


async def test_a_unit_without_events_tells_the_newest_known_position(bench: Bench) -> None:
    async def publishing(db: PostgresDatabase) -> None:
        unit().events.append(event())

    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)

    first = await bench.carry(publishing)
    assert (await bench.carry(adding)).position == first.position > 0


async def test_a_later_store_goes_on_from_where_the_log_is(bench: Bench, postgres_url: str) -> None:
    async def publishing(db: PostgresDatabase) -> None:
        unit().events.append(event())

    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)

    first = await bench.carry(publishing)
    async with opened(postgres_url, make=False) as other:
        assert (await other.carry(adding)).position == first.position


# --- Statements inside ---------------------------------------------------------------------------


async def test_statements_inside_see_what_was_written_before(bench: Bench) -> None:
    async def working(db: PostgresDatabase) -> list[Any]:
        assert await db.execute(ADD, name="a", size=1) == 1
        db.buffer(WIDEN, name="a", by=1)
        assert await db.value(SIZE, name="a") == 2
        assert await db.execute_many(ADD, [{"name": n, "size": 3} for n in "bcd"]) == 3
        assert await db.execute_many(WIDEN, [{"name": n, "by": 1} for n in "bcx"]) == 2
        assert await db.execute_many(ADD, []) == 0
        assert await db.value(COUNT) == 4
        assert (await db.one(SIZE, name="nobody")) is None
        return [tuple(row) for row in await db.all(ALL)]

    result = await bench.carry(working)
    assert result.value == [("a", 2), ("b", 4), ("c", 4), ("d", 3)]
    assert await bench.ask(COUNT) == 4


async def test_a_column_that_changed_its_type_costs_a_rerun_at_most(bench: Bench) -> None:
    async def read(db: PostgresDatabase) -> int:
        db.buffer(ADD, name=f"b{bench.begun}", size=1)
        found: int = await db.value(SIZE, name="a")
        return found

    await bench.carry(lambda db: db.execute(ADD, name="a", size=7))
    assert (await bench.carry(read)).value == 7
    await bench.sql("ALTER TABLE shed.things ALTER COLUMN size TYPE bigint")
    for _ in range(3):
        assert (await bench.carry(read)).value == 7
    assert await bench.ask(SIZE, name="a") == 7


async def test_a_refusal_of_a_constraint_is_raised_where_it_is_awaited(bench: Bench) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1, refuse={"things_key": Taken(name="a")})

    await bench.carry(adding)
    with pytest.raises(Taken):
        await bench.carry(adding)


async def test_a_refusal_of_a_folded_write_is_that_of_its_own_constraint(bench: Bench) -> None:
    given = [("t0", "a0"), ("t1", "a0"), ("t0", "a1"), ("t1", "a1")]

    async def handing_over(db: PostgresDatabase) -> None:
        thing, name = given[bench.begun - 1]
        db.buffer(ADD_PART, name=name, thing=thing, refuse={"one_each": Taken(name="part")})
        db.buffer(ADD, name=name, size=1, refuse={"things_key": Taken(name="thing")})

    answers: list[str] = []
    for _ in range(4):
        try:
            await bench.carry(handing_over)
            answers.append("added")
        except Taken as refused:
            answers.append(refused.name)
    assert answers == ["added", "thing", "part", "added"]
    assert await bench.sql("SELECT count(*) FROM shed.parts") == 2


async def test_a_handler_may_catch_a_refusal_and_go_on(bench: Bench) -> None:
    async def add_or_widen(db: PostgresDatabase) -> str:
        try:
            await db.execute(
                ADD, name="a", size=-1, refuse={"things_not_negative": Taken(name="a")}
            )
        except Taken:
            await db.execute(ADD, name="a", size=1)
            try:
                await db.execute(ADD, name="a", size=2)
            except asyncpg.UniqueViolationError:
                await db.execute(WIDEN, name="a", by=5)
            return "went on"
        return "added"

    assert (await bench.carry(add_or_widen)).value == "went on"
    assert bench.begun == 2  # once more, with savepoints
    assert await bench.ask(SIZE, name="a") == 6


async def test_a_refusal_of_a_buffered_write_that_is_caught_takes_no_other_write_with_it(
    bench: Bench,
) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)

    async def going_on(db: PostgresDatabase) -> str:
        db.buffer(ADD_PART, name="p", thing="a")
        db.buffer(ADD, name="a", size=2, refuse={"things_key": Taken(name="a")})
        db.buffer(ADD, name="b", size=3)
        db.buffer(WIDEN, name="b", by=4)
        try:
            return str(await db.value(SIZE, name="b"))
        except Taken:
            return f"taken, and {await db.value(SIZE, name='b')}"

    await bench.carry(adding)
    assert (await bench.carry(going_on)).value == "taken, and 7"
    assert await bench.sql("SELECT count(*) FROM shed.parts") == 1


async def test_an_error_that_is_caught_at_the_end_spoils_nothing(bench: Bench) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)
        try:
            await db.execute(ADD, name="a", size=2)
        except asyncpg.UniqueViolationError:
            pass

    await bench.carry(adding)
    assert await bench.ask(SIZE, name="a") == 1


async def test_a_value_that_does_not_fit_is_the_handlers_mistake(bench: Bench) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)
        await db.execute(ADD, name="b\0", size=1)

    with pytest.raises(Exception, match=r"0x00|null|NUL") as caught:
        await bench.carry(adding)
    assert bench.begun == 1, caught.value
    assert await bench.ask(COUNT) == 0
    assert bench.pool.statistics().lost == 0


async def test_what_does_not_fit_at_the_end_takes_all_that_was_sent_with_it(bench: Bench) -> None:
    async def reading_first(db: PostgresDatabase) -> None:
        await db.value(COUNT)
        db.buffer(ADD, name="a", size=1)
        db.buffer(WIDEN, name="a", by=1)
        unit().events.append(event(key="\ud800"))  # which asyncpg refuses before it is sent

    with pytest.raises(asyncpg.DataError):
        await bench.carry(reading_first)
    assert await bench.ask(COUNT) == 0


async def test_a_statement_from_another_task_is_refused(bench: Bench) -> None:
    told: list[BaseException] = []
    started = asyncio.Event()

    async def beside(db: PostgresDatabase, message: Any) -> None:
        CURRENT.set(message)
        while message.unit is None or message.unit.session is None:
            started.set()
            await asyncio.sleep(0)
        try:
            await db.value(COUNT)
        except AwaitInsideUnitOfWorkError as error:
            told.append(error)

    async def working(db: PostgresDatabase) -> int:
        task = asyncio.ensure_future(beside(db, current_message()))
        tasks.append(task)
        await started.wait()
        await db.execute(ADD, name="a", size=1)
        for _ in range(20):
            await db.value(COUNT)
        return 1

    tasks: list[asyncio.Future[None]] = []
    await bench.carry(working)
    await asyncio.gather(*tasks)
    assert len(told) == 1
    assert "a task of its own" in str(told[0])


@pytest.mark.parametrize("foreign", ["sleep", "yield", "gather", "create_task", "swallowed"])
async def test_whatever_else_is_awaited_inside_is_refused(bench: Bench, foreign: str) -> None:
    cleaned: list[str] = []

    async def working(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)
        try:
            if foreign == "sleep":
                await asyncio.sleep(0.01)
            if foreign == "yield":
                await asyncio.sleep(0)
            reading = db.value(COUNT)
            try:
                if foreign == "gather":
                    await asyncio.gather(reading)
                if foreign == "create_task":
                    await asyncio.create_task(reading)
                if foreign == "swallowed":
                    try:
                        await asyncio.sleep(0)
                    except AwaitInsideUnitOfWorkError:
                        pass
            finally:
                reading.close()
        finally:
            cleaned.append(foreign)

    with pytest.raises(AwaitInsideUnitOfWorkError, match="Gather first"):
        await bench.carry(working)
    assert cleaned == [foreign]
    assert await bench.ask(COUNT) == 0
    assert asyncio.get_running_loop() is not None
    assert bench.pool.statistics().idle == bench.pool.statistics().open


# --- Once ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_message_has_its_effect_once(bench: Bench, awaited: bool) -> None:
    async def adding(db: PostgresDatabase) -> None:
        if awaited:
            await db.execute(ADD, name=f"a{bench.begun}", size=1)
        else:
            db.buffer(ADD, name=f"a{bench.begun}", size=1)

    def from_the_queue(made: Unit) -> None:
        made.inbox = inbox()

    assert not (await bench.carry(adding, change=from_the_queue)).duplicate
    assert (await bench.carry(adding, change=from_the_queue)).duplicate
    assert await bench.ask(COUNT) == 1


async def test_a_second_delivery_whose_handler_fails_for_the_first_is_a_duplicate(
    bench: Bench,
) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=1)

    def from_the_queue(made: Unit) -> None:
        made.inbox = inbox()

    await bench.carry(adding, change=from_the_queue)
    assert (await bench.carry(adding, change=from_the_queue)).duplicate


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_lost_claim_commits_nothing(bench: Bench, awaited: bool) -> None:
    claim = (
        "INSERT INTO shed.tenfold_claims (until, alone, ids, lanes) "
        "VALUES (now(), true, '{1}', '{x}') RETURNING fence"
    )
    fence = await bench.store.session.write(lambda c: c.fetchval(claim))

    async def adding(db: PostgresDatabase) -> None:
        if awaited:
            await db.execute(ADD, name=f"a{bench.begun}", size=1)
        else:
            db.buffer(ADD, name=f"a{bench.begun}", size=1)

    def from_the_queue(made: Unit) -> None:
        made.inbox, made.fence = inbox(f"m-{bench.begun}"), fence

    await bench.carry(adding, change=from_the_queue)
    await bench.store.session.write(lambda c: c.execute("DELETE FROM shed.tenfold_claims"))
    with pytest.raises(LeaseLostError):
        await bench.carry(adding, change=from_the_queue)
    assert await bench.ask(COUNT) == 1


@pytest.mark.parametrize("awaited", [False, True])
async def test_a_key_answers_as_the_first_time_until_it_expires(
    postgres_url: str, awaited: bool
) -> None:
    async with opened(postgres_url, HeldClock()) as bench:

        async def adding(db: PostgresDatabase) -> str:
            if awaited:
                await db.execute(ADD, name=f"a{bench.begun}", size=1)
            else:
                db.buffer(ADD, name=f"a{bench.begun}", size=1)
            return f"a{bench.begun}"

        def keyed(made: Unit) -> None:
            made.reply_key = reply_key(bench.clock)
            made.encode_reply = str.encode

        assert (await bench.carry(adding, change=keyed)).value == "a1"
        replayed = await bench.carry(adding, change=keyed)
        assert replayed.replay is not None
        assert replayed.replay.body == b"a1"
        assert await bench.ask(COUNT) == 1
        assert isinstance(bench.clock, HeldClock)
        bench.clock.jump(90_000)
        assert (await bench.carry(adding, change=keyed)).value == f"a{bench.begun}"
        assert await bench.ask(COUNT) == 2


async def test_a_refusal_beside_a_key_that_has_answered_is_the_answer(bench: Bench) -> None:
    async def adding(db: PostgresDatabase) -> str:
        if await db.value(SIZE, name="a") is not None:
            raise Taken(name="a")
        await db.execute(ADD, name="a", size=1)
        return "added"

    def keyed(made: Unit) -> None:
        made.reply_key = reply_key(bench.clock)
        made.encode_reply = str.encode

    await bench.carry(adding, change=keyed)
    replayed = await bench.carry(adding, change=keyed)
    assert replayed.replay is not None
    assert replayed.replay.body == b"added"
