"""The queue on PostgreSQL passes the suite of its ports, and what only many processes show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.queue import INSERT_ENTRIES, PostgresQueue, entry_values
from tenfold.contracts.errors import Outcome, StoreUnavailableError
from tenfold.ports.clock import SystemClock
from tenfold.ports.records import Claimed, Delivery, Finish, SubscriptionKey
from tenfold.testing import delivery_suite, queue_suite
from tenfold.testing.queue_suite import LEASE_S, claim, entry, finish, keep, names, take
from tests.conformance.postgres_queue_bench import QueueBench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[QueueBench]:
    made = QueueBench(postgres_url)
    await made.open()
    yield made
    await made.close()


class TestClaims(queue_suite.ClaimCases): ...


class TestLanes(queue_suite.LaneCases): ...


class TestLostClaims(queue_suite.LostClaimCases): ...


class TestUnique(delivery_suite.UniqueCases): ...


class TestDelivery(delivery_suite.DeliveryCases): ...


class TestDesk(delivery_suite.DeskCases): ...


class Wrong(SystemClock):
    """The clock of a machine that is an hour ahead."""

    def now(self) -> datetime:
        return super().now() + timedelta(hours=1)


async def add_many(bench: QueueBench, count: int, lane: str | None = None) -> None:
    made = [entry("m", lane=lane) for _ in range(count)]
    await bench.queue.add(made)


async def work_all(bench: QueueBench, want: int = 500) -> int:
    """Claim and finish until there is nothing more; lets the floors rise whenever they may."""
    worked = 0
    ended: list[Finish] = []
    while (turn := await take(bench.queue, want, *ended)).claim is not None:
        ended = [finish(turn.claim.fence, done=[e.id for e in turn.claim.entries])]
        worked += len(turn.claim.entries)
        await bench.execute("UPDATE {s}.tenfold_floors SET next_at = next_at - interval '1 s'")
    return worked


async def floor(bench: QueueBench) -> int:
    (found,) = await bench.column("SELECT floors[1] FROM {s}.tenfold_floors")
    assert isinstance(found, int)
    return found


async def test_workers_at_once_share_out_what_is_there_and_keep_lanes_in_order(
    bench: QueueBench,
) -> None:
    lanes = [f"lane {n % 7}" if n % 3 else None for n in range(600)]
    await bench.queue.add([entry(str(n), lane=lane) for n, lane in enumerate(lanes)])
    seen: list[Claimed] = []

    async def work(queue: PostgresQueue) -> None:
        ended: list[Finish] = []
        while True:
            turn = await take(queue, 9, *ended)
            assert turn.lost == []
            ended = []
            if turn.claim is not None:
                seen.extend(turn.claim.entries)
                ended = [finish(turn.claim.fence, done=[e.id for e in turn.claim.entries])]
            elif len(seen) == len(lanes):
                return

    await asyncio.gather(*(work(bench.another()) for _ in range(4)))
    assert len({e.id for e in seen}) == len(seen) == len(lanes)
    for lane in set(lanes) - {None}:
        worked = [e.id for e in seen if e.lane == lane]
        assert worked == sorted(worked)
    assert await bench.queue.counts() == {}


async def test_two_relays_at_once_deliver_an_event_once(bench: QueueBench) -> None:
    key = SubscriptionKey(handler="work", generation=1, source="shop")
    events = [entry(f"e{n}", source="shop", source_seq=n) for n in range(1, 201)]

    async def relay(queue: PostgresQueue) -> int:
        added = 0
        for at in range(0, 200, 10):
            page = events[at : at + 10]
            added += await queue.deliver(Delivery(entries=page, positions={key: at + 10}))
        return added

    added = await asyncio.gather(*(relay(bench.another()) for _ in range(3)))
    assert sum(added) == 200
    assert names(await claim(bench.queue, 500)) == [e.message_id for e in events]


async def test_a_lease_is_on_the_stores_clock(bench: QueueBench) -> None:
    ahead, right = bench.another(Wrong()), bench.another(SystemClock())
    await bench.queue.add([entry("a")])
    before = await bench.server_now()
    held = await claim(right)
    assert (await take(ahead)).claim is None
    (until,) = await bench.column("SELECT until FROM {s}.tenfold_claims")
    assert isinstance(until, datetime)
    assert before < until - timedelta(seconds=LEASE_S) < await bench.server_now()
    assert (await keep(right, finish(held.fence, done=[held.entries[0].id]))).lost == []


async def test_a_retry_is_due_on_the_stores_clock(bench: QueueBench) -> None:
    clock = Wrong()
    ahead = bench.another(clock)
    await bench.queue.add([entry("a")])
    held = await claim(ahead)
    at = clock.now() + timedelta(seconds=60)
    await keep(ahead, finish(held.fence, retries={held.entries[0].id: (at, "no")}))
    (run_at,) = await bench.column("SELECT run_at FROM {s}.tenfold_queue")
    assert isinstance(run_at, datetime)
    assert timedelta(seconds=50) < run_at - await bench.server_now() <= timedelta(seconds=60)
    due = await ahead.next_due()
    assert due is not None
    assert timedelta(seconds=50) < due - clock.now() <= timedelta(seconds=60)


async def test_what_is_committed_late_is_claimed_though_its_number_is_low(
    bench: QueueBench,
) -> None:
    slow = await asyncpg.connect(bench.url)
    async with slow.transaction():
        await slow.execute(
            INSERT_ENTRIES.format(s=bench.session.schema), None, *entry_values([entry("late")])
        )
        await add_many(bench, 900)
        assert await work_all(bench) == 900
    assert names(await claim(bench.queue)) == ["late"]
    await slow.close()


async def test_a_floor_is_not_proven_while_the_newest_transaction_of_its_look_is_open(
    bench: QueueBench,
) -> None:
    text = INSERT_ENTRIES.format(s=bench.session.schema)
    older, newest = await asyncpg.connect(bench.url), await asyncpg.connect(bench.url)
    await bench.queue.add([entry("first")])  # from which on its priority is known
    await work_all(bench)
    async with newest.transaction():
        async with older.transaction():
            await older.execute("SELECT pg_current_xact_id()")
            await newest.execute(text, None, *entry_values([entry("late")]))
            await older.execute(text, None, *entry_values([entry("m") for _ in range(1600)]))
        for _ in range(3):
            await claim(bench.queue, 500)
            await bench.execute("UPDATE {s}.tenfold_floors SET next_at = next_at - interval '1 s'")
    assert names(await claim(bench.queue, 1)) == ["late"]
    await older.close()
    await newest.close()


async def test_what_is_committed_below_a_floor_that_was_not_proven_is_found_by_a_sweep(
    bench: QueueBench,
) -> None:
    slow = await asyncpg.connect(bench.url)
    async with slow.transaction():
        await slow.execute(
            INSERT_ENTRIES.format(s=bench.session.schema), None, *entry_values([entry("late")])
        )
        await add_many(bench, 8000)
        assert await work_all(bench) == 8000
        assert await floor(bench) > 3000
    await bench.execute("UPDATE {s}.tenfold_floors SET sweep_at = clock_timestamp()")
    assert names(await claim(bench.queue)) == ["late"]
    await slow.close()


async def test_claims_do_not_read_past_the_dead_that_an_open_transaction_keeps(
    bench: QueueBench,
) -> None:
    forgotten = await asyncpg.connect(bench.url)
    async with forgotten.transaction(isolation="repeatable_read"):
        await forgotten.fetchval("SELECT 1")
        await add_many(bench, 3000)
        assert await work_all(bench, 100) == 3000
        assert await floor(bench) > 2000
    await forgotten.close()


async def test_what_is_returned_lost_or_replayed_below_the_floor_is_claimed_again(
    bench: QueueBench,
) -> None:
    await bench.queue.add([entry("returned"), entry("lost"), entry("dead")])
    first, _, third = [await claim(bench.queue, 1) for _ in range(3)]
    letter = third.entries[0].id
    await add_many(bench, 2000)
    assert await work_all(bench, 100) == 2000
    async with asyncio.timeout(30):
        while await floor(bench) <= letter:  # a transaction of another test may hold it
            await add_many(bench, 600)
            await work_all(bench, 100)
    ended = finish(first.fence, returned=[first.entries[0].id])
    await keep(bench.queue, finish(third.fence, dead={letter: "no"}))
    for name in ("returned", "lost", "dead"):
        held = await claim(bench.queue, 9, ended)
        assert names(held) == [name]
        ended = finish(held.fence, done=[held.entries[0].id])
        if name == "returned":
            bench.clock.jump(LEASE_S - 1)  # this claim lives on, the one before it does not
            await take(bench.queue, 0, renew=(held.fence,))
            bench.clock.jump(2)
        elif name == "lost":
            await bench.queue.retry([letter])


async def test_a_hot_lane_that_is_busy_does_not_hide_what_stands_behind_it(
    bench: QueueBench,
) -> None:
    await add_many(bench, 4000, lane="hot")
    await bench.queue.add([entry("cold", lane="cold")])
    held = await claim(bench.queue, 1)
    for _ in range(5):
        turn = await take(bench.queue, 1)
        if turn.claim is not None:
            break
    assert names(turn.claim) == ["cold"]
    due = await bench.queue.next_due()
    assert due is not None
    assert due > bench.clock.now()
    after = await claim(bench.queue, 500, finish(held.fence, done=[held.entries[0].id]))
    ids = [e.id for e in after.entries]
    assert ids == list(range(2, 502))
    assert await work_all(bench) == 0
    await keep(bench.queue, finish(after.fence, done=ids))
    assert await work_all(bench) == 4000 - 501


async def test_many_processes_make_the_tables_at_once(postgres_url: str) -> None:
    benches = [QueueBench(postgres_url) for _ in range(6)]
    await asyncio.gather(*(each.open() for each in benches))
    await benches[0].queue.add([entry("a")])
    assert names(await claim(benches[5].queue)) == ["a"]
    for each in benches:
        await each.close()


async def test_the_tables_of_a_newer_tenfold_are_left_alone(bench: QueueBench) -> None:
    await bench.execute("UPDATE {s}.tenfold_meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(StoreUnavailableError, match="version 99"):
        await bench.open()


async def test_a_turn_whose_answer_was_lost_is_not_taken_twice_by_itself(
    bench: QueueBench,
) -> None:
    class Cut:
        """A session whose connection is lost after the first statement was committed."""

        schema = bench.session.schema
        taken = 0

        async def read(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
            async def cut(connection: Any) -> Any:
                done = await work(connection)
                self.taken += 1
                if self.taken == 1:
                    raise asyncpg.ConnectionDoesNotExistError("cut")
                return done

            return await bench.session.read(cut)

    await bench.queue.add([entry("a"), entry("b")])
    held = await claim(bench.queue, 1)
    session: Any = Cut()
    queue = PostgresQueue(session, bench.clock)
    ended = finish(held.fence, done=[held.entries[0].id])
    with pytest.raises(StoreUnavailableError) as raised:
        await take(queue, 1, ended)
    assert raised.value.outcome is Outcome.MAYBE_DONE
    after = await take(queue, 1, ended)
    assert (after.lost, after.claim) == ([held.fence], None)
    assert await bench.queue.counts() == {"work": {"running": 1}}
    bench.clock.jump(LEASE_S)
    assert names(await claim(queue)) == ["b"]
