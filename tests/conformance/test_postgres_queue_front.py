"""The usual claim on PostgreSQL, which takes what stands first, gives way where that is not all."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from tenfold.adapters.postgres.claims import TAKE_TURN, turn_values
from tenfold.adapters.postgres.horizon import INDEX_ONLY
from tenfold.adapters.postgres.queue import INSERT_ENTRIES, entry_values
from tenfold.adapters.postgres.schema import create_platform_tables
from tenfold.ports.records import Claim, Cycle, QueueEntry
from tenfold.testing.queue_suite import claim, entry, finish, keep, names, take
from tests.conformance.postgres_queue_bench import MODULE, QueueBench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[QueueBench]:
    made = QueueBench(postgres_url)
    await made.open()
    # The first claim learns which priorities there are; only then is there a usual one.
    await made.queue.add([entry("first")])
    await finish_all(made, await claim(made.queue))
    yield made
    await made.close()


async def finish_all(bench: QueueBench, held: Claim) -> None:
    turn = await keep(bench.queue, finish(held.fence, done=[e.id for e in held.entries]))
    assert turn.lost == []


async def add(bench: QueueBench, count: int, name: str = "m", **rest: object) -> None:
    await bench.queue.add([entry(f"{name}{n}", **rest) for n in range(count)])  # type: ignore[arg-type]


async def usual(bench: QueueBench) -> bool:
    """Whether the next claim is a usual one."""
    (ids,) = await bench.column(
        "SELECT (t.front).ids FROM (SELECT {s}.tenfold_front_1(100, f) AS front"
        " FROM {s}.tenfold_floors AS f) AS t"
    )
    return ids is not None


async def put(bench: QueueBench, connection: asyncpg.Connection[Any], *made: QueueEntry) -> None:
    text = INSERT_ENTRIES.format(s=bench.session.schema)
    await connection.execute(text, None, *entry_values(made))


async def test_what_an_open_transaction_had_added_before_is_claimed_when_it_commits(
    bench: QueueBench,
) -> None:
    late = await asyncpg.connect(bench.url)
    try:
        transaction = late.transaction()
        await transaction.start()
        await put(bench, late, entry("late"))
        await add(bench, 40)
        held = [await claim(bench.queue, 10)]
        await transaction.commit()
        held += [await claim(bench.queue, 10) for _ in range(4)]
    finally:
        await late.close()
    claimed = [name for each in held for name in names(each)]
    assert claimed == [*[f"m{n}" for n in range(10)], "late", *[f"m{n}" for n in range(10, 40)]]


async def test_what_stands_behind_a_busy_lane_is_come_back_to(bench: QueueBench) -> None:
    await add(bench, 2, "a", lane="a")
    held = await claim(bench.queue, 1)
    await add(bench, 30)
    assert await usual(bench)
    others = [await claim(bench.queue, 10) for _ in range(4)]
    assert [name for each in others for name in names(each)] == [f"m{n}" for n in range(30)]
    await finish_all(bench, held)
    assert names(await claim(bench.queue, 10)) == ["a1"]


async def test_what_comes_with_another_priority_is_claimed_before(bench: QueueBench) -> None:
    await add(bench, 30)
    await claim(bench.queue, 10)
    await claim(bench.queue, 10)
    await add(bench, 1, "urgent", priority=5)
    await add(bench, 1, "idle", priority=-5)
    assert not await usual(bench)
    found = names(await claim(bench.queue, 20))
    assert found == ["urgent0", *[f"m{n}" for n in range(20, 30)], "idle0"]


async def test_an_older_entry_of_its_lane_that_waits_for_a_moment_keeps_one_back(
    bench: QueueBench,
) -> None:
    await add(bench, 1, "later", lane="a", run_at=datetime(2999, 1, 1, tzinfo=UTC))
    await add(bench, 1, "behind", lane="a")
    await add(bench, 2, "free", lane="b")
    assert await usual(bench)
    assert names(await claim(bench.queue)) == ["free0", "free1"]


async def test_one_that_waits_for_a_moment_keeps_back_only_those_behind_it(
    bench: QueueBench,
) -> None:
    await add(bench, 1, "before", lane="a")
    await add(bench, 1, "later", lane="a", run_at=datetime(2999, 1, 1, tzinfo=UTC))
    await add(bench, 1, "behind", lane="a")
    assert await usual(bench)
    assert names(await claim(bench.queue)) == ["before0"]


async def test_what_is_retried_or_lost_takes_a_look(bench: QueueBench) -> None:
    await add(bench, 3)
    assert await usual(bench)
    held = await claim(bench.queue, 1)
    await keep(bench.queue, finish(held.fence, returned=[held.entries[0].id]))
    assert not await usual(bench)
    assert names(await claim(bench.queue)) == ["m0", "m1", "m2"]


async def test_each_is_claimed_once_and_in_its_lanes_order_whatever_becomes_of_it(
    bench: QueueBench,
) -> None:
    chance = random.Random(7)
    await bench.queue.add(
        [entry(str(n), lane=chance.choice([None, "a", "b", f"own {n}"])) for n in range(300)]
    )
    lanes: dict[str, list[int]] = {}
    left, held = 300, list[Claim]()
    while left:
        turn = await take(bench.queue, chance.randint(1, 40))
        if turn.claim is not None:
            held.append(turn.claim)
        if held and (turn.claim is None or chance.random() < 0.6):
            each = held.pop(chance.randrange(len(held)))
            done = [e for e in each.entries if chance.random() < 0.8]
            # What is not done is returned with all of its lane that stands behind it.
            open_ = {e.lane for e in each.entries if e not in done and e.lane is not None}
            done = [e for e in done if e.lane not in open_]
            back = [e.id for e in each.entries if e not in done]
            await keep(bench.queue, finish(each.fence, done=[e.id for e in done], returned=back))
            left -= len(done)
            for e in done:
                if e.lane is not None:
                    lanes.setdefault(e.lane, []).append(e.id)
    assert await bench.queue.counts() == {}
    assert all(ids == sorted(ids) for ids in lanes.values())


async def test_older_code_takes_turns_at_the_same_queue(bench: QueueBench) -> None:
    await add(bench, 2, lane="a")
    await add(bench, 2, "free")
    text = TAKE_TURN.format(s=bench.session.schema).replace("tenfold_turn_2", "tenfold_turn_1")
    now = bench.clock.now()
    values = turn_values(Cycle(finished=[], renew=[], want=3, lease_s=30.0), now)
    head, *rows = await bench.session.read(lambda c: c.fetch(text, now, now, *values))
    assert [(row["message_id"], row["lane"], row["attempts"]) for row in rows] == [
        ("m0", "a", 0),
        ("m1", "a", 0),
        ("free0", None, 0),
    ]
    assert names(await claim(bench.queue)) == ["free1"]
    assert (head["lost"], rows[0]["fence"]) == ([], None)
    await keep(bench.queue, finish(head["fence"], done=[row["id"] for row in rows]))
    assert await bench.queue.counts() == {"work": {"running": 1}}


async def test_a_schema_from_before_this_turn_is_made_up(bench: QueueBench) -> None:
    await bench.execute("DROP FUNCTION {s}.tenfold_turn_2")
    await bench.session.read(lambda c: create_platform_tables(c, MODULE))
    await add(bench, 1)
    assert names(await claim(bench.queue)) == ["m0"]


@pytest.mark.parametrize("function", ["tenfold_front_1(100, f)", "tenfold_sweep_1(f)"])
async def test_a_queue_that_was_empty_until_now_is_not_read_as_a_whole(
    bench: QueueBench, function: str
) -> None:
    # Plans are kept from when it was empty, until it is analyzed: after a minute at the soonest.
    schema = bench.session.schema
    await bench.execute("ALTER TABLE {s}.tenfold_queue SET (autovacuum_enabled = off)")
    text = f"SELECT {schema}.{function} FROM {schema}.tenfold_floors f"
    connection = await asyncpg.connect(bench.url)

    async def run(text: str) -> Any:
        await connection.execute(f"UPDATE {schema}.tenfold_floors SET sweep_at = '-infinity'")
        return await connection.fetchval(text)

    try:
        await connection.execute(INDEX_ONLY.replace("LOCAL ", ""))
        for _ in range(8):
            await run(text)
        await put(bench, connection, *[entry(f"m{n}") for n in range(20_000)])
        await run(text)
        said = await run(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}")
    finally:
        await connection.close()
    (found,) = json.loads(str(said))
    touched = found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]
    (pages,) = await bench.column("SELECT pg_relation_size('{s}.tenfold_queue') / 8192")
    assert touched < int(str(pages)) / 2, "it read the table as a whole"
