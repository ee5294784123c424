"""The outbox and the stored replies on PostgreSQL pass the suite of their ports.

And what only a log with many writers can get wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tenfold.adapters.postgres.horizon import keep_order
from tenfold.ports.clock import SystemClock
from tenfold.testing import outbox_suite
from tenfold.testing.outbox_suite import event
from tests.conformance.postgres_log import LogBench, insert_events

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[LogBench]:
    made = LogBench(postgres_url)
    await made.open()
    yield made
    await made.close()


class TestOutbox(outbox_suite.OutboxCases): ...


class TestReplies(outbox_suite.ReplyCases): ...


async def ids(bench: LogBench, after: int = 0) -> list[str]:
    return [row.message_id for row in (await bench.outbox.read(after, ["Placed"], 10)).rows]


async def test_a_slow_transaction_that_took_its_number_early_is_not_skipped(
    bench: LogBench,
) -> None:
    slow = await bench.session.connect()
    await bench.publish([event("first", bench)])
    async with slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        await bench.commit([event("fast", bench)])
        page = await bench.outbox.read(0, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["first"]
        assert page.position == page.rows[-1].seq == await bench.outbox.head()
        assert page.held
        assert not (await bench.outbox.read(0, ["Paid"], 10)).held
        await insert_events(slow, bench.session.schema, [event("slow", bench)])
        assert await bench.outbox.head() == page.position
    await bench.settled()
    after = await bench.outbox.read(page.position, ["Placed"], 10)
    assert [row.message_id for row in after.rows] == ["slow", "fast"]
    assert not after.held
    assert after.position == await bench.outbox.head() == after.rows[-1].seq


async def test_what_begins_at_the_head_misses_nothing_that_is_committed_later(
    bench: LogBench,
) -> None:
    slow = await bench.session.connect()
    async with slow.transaction():
        await insert_events(slow, bench.session.schema, [event("slow", bench)])
        await bench.commit([event("fast", bench)])
        head = await bench.outbox.head()
    await bench.settled()
    assert await ids(bench, head) == ["slow", "fast"]


async def test_a_transaction_that_only_reads_holds_nothing_back(bench: LogBench) -> None:
    reader = await bench.session.connect()
    async with reader.transaction(isolation="repeatable_read"):
        await reader.fetchval("SELECT 1")
        await bench.publish([event("a", bench)])
        assert await ids(bench) == ["a"]


async def test_committed_events_above_the_horizon_are_counted(bench: LogBench) -> None:
    slow = await bench.session.connect()
    async with slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        await bench.commit([event("fast", bench)])
        assert await bench.outbox.head() == 0
        assert await bench.outbox.count(["Placed"], 0, 2**62, 10) == 1


async def test_nothing_above_the_horizon_is_forgotten(bench: LogBench) -> None:
    slow = await bench.session.connect()
    await bench.publish([event("first", bench)])
    async with slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        await bench.commit([event("fast", bench)])
        assert await bench.outbox.trim(bench.clock.jump(60), 2**62) == 1
    await bench.settled()
    assert await ids(bench) == ["fast"]


async def test_an_old_event_behind_a_young_one_waits_for_it(bench: LogBench) -> None:
    old, young = event("old", bench), event("young", bench)
    before = bench.clock.jump(60)
    await bench.publish([event("young", bench)])
    await bench.publish([old])
    assert await bench.outbox.trim(before, 2**62) == 0
    assert young.at < before
    assert await bench.outbox.floor() == 0
    assert await ids(bench) == ["young", "old"]


async def test_a_long_log_is_forgotten_in_bites(bench: LogBench) -> None:
    await bench.publish([event(str(i), bench) for i in range(6000)])
    head = await bench.outbox.head()
    assert await bench.outbox.trim(bench.clock.jump(60), head) == 6000
    assert await bench.outbox.floor() == head == await bench.outbox.head()


async def test_the_age_of_the_horizon_is_that_of_the_oldest_transaction_that_wrote(
    bench: LogBench,
) -> None:
    slow = await bench.session.connect()
    async with slow.transaction():
        await slow.execute("SELECT pg_current_xact_id(), pg_sleep(0.05)")
        assert await bench.outbox.horizon_age_s() >= 0.05


async def test_a_log_that_was_restored_elsewhere_goes_on_growing(bench: LogBench) -> None:
    await bench.publish([event("before", bench)])
    connection = await bench.session.connect()
    schema = bench.session.schema
    # As a dump from a cluster that has seen a million transactions more.
    await connection.execute(
        f"UPDATE {schema}.tenfold_outbox SET seq = seq + 65536 * 1000000::bigint"
    )
    assert await keep_order(connection, bench.schema) > 900_000
    assert await keep_order(connection, bench.schema) == 0
    head = await bench.outbox.head()
    assert await ids(bench) == ["before"]
    await bench.publish([event("after", bench)])
    assert await ids(bench, head) == ["after"]


async def test_a_trimmed_log_that_was_restored_elsewhere_goes_on_growing(bench: LogBench) -> None:
    await bench.publish([event("before", bench)])
    head = await bench.outbox.head()
    await bench.outbox.trim(bench.clock.jump(60), head)
    connection = await bench.session.connect()
    await connection.execute(
        f"UPDATE {bench.session.schema}.tenfold_meta"
        " SET value = (value::bigint + 65536 * 1000000::bigint)::text WHERE key = 'outbox_floor'"
    )
    assert await keep_order(connection, bench.schema) > 900_000
    await bench.publish([event("after", bench)])
    assert await ids(bench, await bench.outbox.floor()) == ["after"]


async def test_a_reply_expires_by_the_clock_of_the_store(postgres_url: str) -> None:
    bench = LogBench(postgres_url, SystemClock())
    await bench.open()
    now = await (await bench.session.connect()).fetchval("SELECT clock_timestamp()")
    held = outbox_suite.ReplyCases().key(bench, key="held", expires_at=now.replace(year=2999))
    gone = outbox_suite.ReplyCases().key(bench, key="gone", expires_at=now)
    await bench.store_reply(held, b"reply", 7)
    assert await bench.outbox.find(held) is not None
    await bench.store_reply(gone, b"reply", 7)
    assert await bench.outbox.find(gone) is None
    await bench.close()
