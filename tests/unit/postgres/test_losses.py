"""What is lost on the way: conflicts, connections, the server, time. Nothing is done twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.database import PostgresDatabase
from tenfold.contracts.errors import Outcome, StoreUnavailableError
from tenfold.path.handle import deadline_error
from tenfold.ports.unit import Unit, UnitLostError, current_message
from tests.servers import OwnPostgres
from tests.unit.postgres.bench import (
    ADD,
    ADD_PART,
    COUNT,
    SIZE,
    WIDEN,
    Bench,
    event,
    inbox,
    opened,
    reply_key,
)
from tests.unit.postgres.proxy import Proxy, When

pytestmark = pytest.mark.anyio

KILL_OTHERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
MAKE_SURE = "SELECT count(*) FROM shed.things"


def unit() -> Unit:
    found = current_message().unit
    assert found is not None
    return found


async def add(db: PostgresDatabase) -> None:
    """A handler with an awaited statement."""
    await db.execute(ADD, name="a", size=1)
    unit().events.append(event())


async def hand_over(db: PostgresDatabase) -> None:
    """A handler whose statements are folded."""
    db.buffer(ADD, name="a", size=1)
    unit().events.append(event())


# --- Conflicts -----------------------------------------------------------------------------------


async def test_of_fifty_at_once_on_one_row_all_succeed(bench: Bench) -> None:
    async def setting(db: PostgresDatabase) -> int:
        size = int(await db.value(SIZE, name="a"))
        return await db.execute(WIDEN, name="a", by=1 if size >= 0 else 0)

    async def first(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=0)

    await bench.carry(first)
    await asyncio.gather(*(bench.carry(setting, timeout_s=30) for _ in range(50)))
    assert await bench.ask(SIZE, name="a") == 50
    assert bench.begun > 51, "there was no conflict, so this has shown nothing"


async def test_units_that_would_wait_for_each_other_are_begun_again(bench: Bench) -> None:
    async def both(db: PostgresDatabase) -> None:
        await db.execute(ADD, name="a", size=0)
        await db.execute(ADD, name="b", size=0)

    await bench.carry(both)

    def widen(one: str, other: str) -> Callable[[PostgresDatabase], Any]:
        async def handler(db: PostgresDatabase) -> None:
            await db.execute(WIDEN, name=one, by=1)
            await db.value(COUNT)
            await db.execute(WIDEN, name=other, by=1)

        return handler

    work = [widen("a", "b") if n % 2 else widen("b", "a") for n in range(6)]
    await asyncio.gather(*(bench.carry(each, timeout_s=30) for each in work))
    assert await bench.ask(SIZE, name="a") == 6
    assert await bench.ask(SIZE, name="b") == 6


async def test_who_loses_too_long_is_told_that_nothing_was_done(bench: Bench) -> None:
    class Losing:
        async def run(self, *given: Any) -> Any:
            raise UnitLostError("It was lost.")

    store, bench.store = bench.store, Losing()  # type: ignore[assignment]
    with pytest.raises(StoreUnavailableError, match="each time the database rolled it back") as e:
        await bench.carry(hand_over, timeout_s=0.3)
    bench.store = store
    assert e.value.outcome is Outcome.NOT_DONE
    assert bench.begun > 5


# --- Connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [add, hand_over])
async def test_connections_that_died_idle_cost_a_rerun_at_most(
    bench: Bench, handler: Callable[[PostgresDatabase], Any]
) -> None:
    await asyncio.gather(*(bench.ask(COUNT) for _ in range(8)))
    await bench.sql(KILL_OTHERS)
    await bench.carry(handler, change=with_inbox)
    assert await bench.ask(COUNT) == 1


def with_inbox(made: Unit) -> None:
    made.inbox = inbox()


def with_key(bench: Bench) -> Callable[[Unit], None]:
    def change(made: Unit) -> None:
        made.reply_key = reply_key(bench.clock)
        made.encode_reply = lambda value: b"done"

    return change


@pytest.mark.parametrize("word", [b"BEGIN", b"things", b"tenfold_outbox"])
async def test_a_connection_lost_before_the_commit_costs_a_rerun(
    proxied: Bench, proxy: Proxy, word: bytes
) -> None:
    proxy.cut(word, "after")
    await proxied.carry(add)
    assert proxied.begun == 2
    assert proxy.cuts == 1
    assert await proxied.ask(COUNT) == 1
    assert proxied.pool.statistics().lost == 1


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_connection_lost_at_the_commit_leaves_it_open_whether_it_was_done(
    proxied: Bench, proxy: Proxy, when: When
) -> None:
    proxy.cut(b"COMMIT", when)
    with pytest.raises(StoreUnavailableError) as caught:
        await proxied.carry(add)
    assert caught.value.outcome is Outcome.MAYBE_DONE
    assert "It may be committed" in str(caught.value)
    assert proxied.begun == 1
    assert await proxied.sql(MAKE_SURE) == (when == "after")


@pytest.mark.parametrize("handler", [add, hand_over])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_keyed_command_whose_commit_was_lost_is_done_once_and_answered(
    proxied: Bench, proxy: Proxy, when: When, handler: Callable[[PostgresDatabase], Any]
) -> None:
    # A value that is bound, since the statement is prepared before.
    proxy.cut(b"COMMIT" if handler is add else b"shed.Tidied", when)
    result = await proxied.carry(handler, change=with_key(proxied))
    assert proxy.cuts == 1
    assert (result.replay is not None) == (when == "after")
    assert await proxied.sql(MAKE_SURE) == 1
    assert await proxied.sql("SELECT count(*) FROM shed.tenfold_outbox") == 1


async def test_a_message_whose_commit_was_lost_has_its_effect_once(
    proxied: Bench, proxy: Proxy
) -> None:
    proxy.cut(b"COMMIT", "after")
    result = await proxied.carry(add, change=with_inbox)
    assert result.duplicate
    assert await proxied.sql(MAKE_SURE) == 1


async def test_a_commit_in_doubt_stays_in_doubt_when_nobody_can_be_asked(
    proxied: Bench, proxy: Proxy
) -> None:
    proxy.cut(b"COMMIT", "after", for_good=True)
    with pytest.raises(StoreUnavailableError) as caught:
        await proxied.carry(add, change=with_key(proxied), timeout_s=1.0)
    assert caught.value.outcome is Outcome.MAYBE_DONE


async def test_a_query_survives_a_lost_connection(proxied: Bench, proxy: Proxy) -> None:
    await proxied.ask(COUNT)
    await proxied.sql(KILL_OTHERS)
    assert await proxied.ask(COUNT) == 0


async def test_a_server_that_is_started_again_is_found_again(
    own_postgres: Callable[..., OwnPostgres], caplog: pytest.LogCaptureFixture
) -> None:
    server = await asyncio.to_thread(own_postgres)
    async with opened(server.url, wait_s=30.0) as bench:
        with caplog.at_level(logging.WARNING):
            await asyncio.to_thread(server.kill)
            carrying = asyncio.ensure_future(
                bench.carry(hand_over, change=with_inbox, timeout_s=30)
            )
            asking = asyncio.ensure_future(bench.ask(COUNT))
            while bench.pool.healthy:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(server.start)
            await carrying
            await asking
        assert "could not be reached" in caplog.text
        assert await bench.ask(COUNT) == 1
        assert bench.store.healthy


async def test_a_server_that_has_become_a_replica_is_left(bench: Bench, postgres_url: str) -> None:
    name = await bench.sql("SELECT current_database()")
    await bench.carry(hand_over)
    operator = await asyncpg.connect(postgres_url)
    try:
        # To those who connect from now on it says that it only reads, and to all who write.
        await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        for serializable in (False, True):
            standing = await bench.pool.take(serializable)
            await standing.raw.execute("SET default_transaction_read_only = on")
            bench.pool.give_back(standing)
        with pytest.raises(StoreUnavailableError, match="could not be reached") as caught:
            await bench.carry(add, timeout_s=0.5)
        assert caught.value.outcome is Outcome.NOT_DONE
        await operator.execute("SET default_transaction_read_only = off")
        await operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
    finally:
        await operator.close()
    await bench.carry(widen)
    assert await bench.ask(SIZE, name="a") == 2


async def widen(db: PostgresDatabase) -> None:
    """A handler that works on what `hand_over` has added."""
    await db.execute(WIDEN, name="a", by=1)


# --- Time ----------------------------------------------------------------------------------------


async def test_a_deadline_inside_leaves_nothing_and_the_connection_goes_on(
    proxied: Bench, proxy: Proxy
) -> None:
    proxy.hold(b"tenfold_outbox")
    message = proxied.message(timeout_s=0.3)
    with pytest.raises(TimeoutError):
        await proxied.carry(add, timeout_s=0.3, message=message)
    assert deadline_error("shed.tidy", 0.3, message).outcome is Outcome.NOT_DONE
    proxy.go.set()
    assert await proxied.ask(COUNT) == 0
    await proxied.carry(add)
    assert await proxied.ask(COUNT) == 1


async def test_a_cancelled_handler_cleans_up_and_leaves_nothing(
    proxied: Bench, proxy: Proxy
) -> None:
    cleaned: list[str] = []

    async def working(db: PostgresDatabase) -> None:
        try:
            await db.execute(ADD, name="a", size=1)
            await db.execute(ADD_PART, name="p", thing="t")
        finally:
            cleaned.append("cleaned")

    proxy.hold(b"parts")
    task = asyncio.ensure_future(proxied.carry(working))
    await proxy.held.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["cleaned"]
    proxy.go.set()
    assert await proxied.ask(COUNT) == 0


async def test_a_deadline_at_the_commit_leaves_it_open_whether_it_was_done(
    proxied: Bench, proxy: Proxy
) -> None:
    proxy.hold(b"COMMIT")
    message = proxied.message(timeout_s=0.3)
    with pytest.raises(TimeoutError):
        await proxied.carry(add, timeout_s=0.3, message=message)
    assert deadline_error("shed.tidy", 0.3, message).outcome is Outcome.MAYBE_DONE
    proxy.go.set()


async def test_of_many_that_are_cancelled_each_is_done_or_not(bench: Bench) -> None:
    async def adding(db: PostgresDatabase) -> None:
        await db.execute(ADD, name=f"a{bench.begun}", size=1)
        unit().events.append(event())

    tasks = [asyncio.ensure_future(bench.carry(adding)) for _ in range(60)]
    await asyncio.sleep(0)
    for n, task in enumerate(tasks):
        if n % 2:
            task.cancel()
        if n % 5 == 0:
            await asyncio.sleep(0.001)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    done = sum(not isinstance(answer, BaseException) for answer in answers)
    assert done >= 30
    things = await bench.ask(COUNT)
    assert things == await bench.sql("SELECT count(*) FROM shed.tenfold_outbox")
    assert done <= things <= 60


# --- Through a pooler ----------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [add, hand_over])
async def test_in_transactions_alone_everything_goes_as_well(
    postgres_url: str, handler: Callable[[PostgresDatabase], Any]
) -> None:
    async with opened(postgres_url, pooler="transaction") as bench:
        await bench.carry(handler, change=with_inbox)
        assert (await bench.carry(handler, change=with_inbox)).duplicate
        assert await bench.ask(COUNT) == 1
        settings = await bench.sql(
            "SELECT current_setting('lock_timeout') || current_setting('transaction_isolation')"
        )
        assert settings == "5sread committed"
        prepared = await bench.sql("SELECT count(*) FROM pg_prepared_statements")
        assert prepared == 0


@pytest.mark.parametrize("handler", [add, hand_over])
async def test_through_pgbouncer_everything_goes_as_well(
    pgbouncer_url: str, handler: Callable[[PostgresDatabase], Any]
) -> None:
    async with opened(pgbouncer_url, pooler="transaction", size=20) as bench:

        async def many(db: PostgresDatabase) -> None:
            db.buffer(ADD, name=f"a{bench.begun}", size=1)
            unit().events.append(event())

        await bench.carry(handler, change=with_inbox)
        await asyncio.gather(*(bench.carry(many) for _ in range(40)))
        assert await bench.ask(COUNT) == 41


async def test_the_platform_s_own_work_that_takes_too_long_is_told_as_such(
    postgres_url: str,
) -> None:
    async with opened(postgres_url, statement_timeout_s=0.05) as bench:
        session = bench.store.session
        for work in (session.read, session.write):
            with pytest.raises(StoreUnavailableError, match="statement_timeout_s") as caught:
                await work(lambda c: c.execute("SELECT pg_sleep(5)"))
            assert caught.value.outcome is Outcome.NOT_DONE
        assert await bench.sql("SELECT 1") == 1
