"""Read replicas on a real cluster: nobody misses what was seen, and the unwell are left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenfold.adapters.postgres.pool import Pool, PoolSettings
from tenfold.adapters.postgres.replicas import (
    PostgresReplicas,
    ReplicaLimits,
    decide_lag_s,
    decide_seen,
)
from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.errors import StoreUnavailableError
from tenfold.contracts.operations import Kind
from tenfold.path.positions import Positions
from tenfold.ports.clock import SystemClock
from tenfold.ports.replicas import Freshness
from tenfold.ports.unit import Message, Unit
from tests.servers import OwnPostgres, ReplicatedPostgres


def message(
    freshness: Freshness | None, kind: Kind = Kind.QUERY, *, within_s: float = 5
) -> Message:
    envelope = Envelope(
        id="m",
        kind=kind,
        target="orders.get",
        payload=None,
        principal=OPERATOR,
        tenant="main",
        trace=TraceContext(trace_id="0" * 31 + "1", span_id="0" * 15 + "1"),
        at=SystemClock().now(),
    )
    made = Message(envelope, kind, "orders", time.monotonic() + within_s, None)
    made.freshness = freshness
    return made


class Cluster:
    """A primary and one replica, with their pools."""

    def __init__(self, url: str, replica: str, limits: ReplicaLimits) -> None:
        self.primary = Pool(PoolSettings(url=url, size=3))
        self.replica = Pool(PoolSettings(url=replica, size=3, target="any", wait_s=1.0))
        self.servers = PostgresReplicas(self.primary, [("one", self.replica)], limits, server="ab")
        self._urls = (url, replica)

    async def run(self, sql: str, *, on: int = 0) -> Any:
        connection = await asyncpg.connect(self._urls[on])
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    async def is_taken_in(self, well: bool = True) -> None:
        async with asyncio.timeout(20):
            while self.servers.states()[0].well is not well:
                await asyncio.sleep(0.01)

    async def pool_for(self, message: Message) -> str:
        pool = await self.servers.pool_for(message)
        return "primary" if pool is self.primary else "replica"

    async def close(self) -> None:
        await self.servers.stop()
        await self.primary.close()
        await self.replica.close()


@pytest.fixture
async def cluster(replicated_postgres: ReplicatedPostgres) -> AsyncIterator[Cluster]:
    made = Cluster(
        replicated_postgres.url,
        replicated_postgres.replica_url,
        ReplicaLimits(wait_s=0.2, look_s=0.05, max_lag_s=0.5),
    )
    await made.run("CREATE TABLE seen (n int)")
    await made.servers.start()
    await made.is_taken_in()
    yield made
    await made.close()


@pytest.mark.anyio
class TestRouting:
    async def test_who_has_seen_nothing_is_answered_by_a_replica(self, cluster: Cluster) -> None:
        assert await cluster.pool_for(message(Freshness(0))) == "replica"

    async def test_whatever_decides_asks_the_primary(self, cluster: Cluster) -> None:
        decision = message(None)
        decision.decision = True
        assert await cluster.pool_for(decision) == "primary"
        assert await cluster.pool_for(message(None, Kind.JOB)) == "primary"
        inside = message(None)
        inside.unit = Unit("m", "main", 0)
        assert await cluster.pool_for(inside) == "primary"

    async def test_a_caller_waits_for_its_own_write(self, cluster: Cluster) -> None:
        await cluster.run("INSERT INTO seen VALUES (1)")
        freshness = Freshness(await cluster.servers.written())
        pool = await cluster.servers.pool_for(message(freshness))
        pooled = await pool.take()
        try:
            assert await pooled.raw.fetchval("SELECT count(*) FROM seen") == 1
        finally:
            pool.give_back(pooled)

    async def test_a_replica_that_stands_still_gives_way_to_the_primary_within_the_bound(
        self, replicated_standing_still: Cluster
    ) -> None:
        cluster = replicated_standing_still
        await cluster.run("INSERT INTO seen VALUES (1)")
        freshness = Freshness(await cluster.servers.written())
        began = time.monotonic()
        assert await cluster.pool_for(message(freshness)) == "primary"
        assert time.monotonic() - began < 2
        # What was not needed may still be read from it, until it is left out.
        await cluster.is_taken_in(well=False)
        assert await cluster.pool_for(message(Freshness(0))) == "primary"
        await cluster.run("SELECT pg_wal_replay_resume()", on=1)
        await cluster.is_taken_in()
        assert await cluster.pool_for(message(freshness)) == "replica"

    async def test_only_the_primary_has_a_place_that_nobody_knows(self, cluster: Cluster) -> None:
        assert await cluster.pool_for(message(Freshness(None))) == "primary"

    async def test_what_a_reply_has_seen_is_at_least_what_was_read(self, cluster: Cluster) -> None:
        await cluster.run("INSERT INTO seen VALUES (1)")
        written = await cluster.servers.written()
        freshness = Freshness(written)
        await cluster.servers.pool_for(message(freshness))
        assert await cluster.servers.seen(freshness) >= written

    async def test_the_primary_s_answers_are_as_new_as_its_log(self, cluster: Cluster) -> None:
        freshness = Freshness(None)
        await cluster.servers.pool_for(message(freshness))
        await cluster.run("INSERT INTO seen VALUES (1)")
        assert await cluster.servers.seen(freshness) > 0

    async def test_a_message_stays_with_whoever_has_answered_it(self, cluster: Cluster) -> None:
        freshness = Freshness(0)
        chosen = {await cluster.pool_for(message(freshness)) for _ in range(5)}
        assert chosen == {"replica"}
        assert len(freshness.touched) == 1

    async def test_a_question_that_no_server_can_answer_leaves_no_replica_out(
        self, cluster: Cluster
    ) -> None:
        for error in (asyncpg.DivisionByZeroError("0"), asyncpg.UndefinedTableError("later")):
            assert cluster.servers.failed(cluster.replica, error)  # the primary may answer
        assert await cluster.pool_for(message(Freshness(0))) == "replica"

    async def test_what_was_changed_without_a_token_is_read_where_it_has_arrived(
        self, replicated_standing_still: Cluster
    ) -> None:
        cluster = replicated_standing_still
        assert await cluster.pool_for(message(Freshness(0))) == "replica"
        await cluster.run("CREATE TABLE seen__2 (n int)")
        cluster.servers.require_now()
        assert await cluster.pool_for(message(Freshness(0))) == "primary"
        await cluster.run("SELECT pg_wal_replay_resume()", on=1)
        await cluster.is_taken_in()
        async with asyncio.timeout(10):
            while await cluster.pool_for(message(Freshness(0))) != "replica":
                await asyncio.sleep(0.01)
        assert await cluster.run("SELECT count(*) FROM seen__2", on=1) == 0

    async def test_a_failed_read_leaves_the_replica_out(self, cluster: Cluster) -> None:
        assert cluster.servers.failed(cluster.replica, OSError("gone"))
        assert not cluster.servers.failed(cluster.primary, OSError("gone"))
        assert await cluster.pool_for(message(Freshness(0))) == "primary"
        await cluster.is_taken_in()

    async def test_who_asks_where_it_is_hears_of_whatever_failed(
        self, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: Any) -> None:
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2)")

        monkeypatch.setattr(asyncpg.Connection, "fetchrow", fail)
        with pytest.raises(StoreUnavailableError, match="cannot switch"):
            async with asyncio.timeout(5):
                await cluster.servers.written()


@pytest.fixture
async def replicated_standing_still(cluster: Cluster) -> AsyncIterator[Cluster]:
    await cluster.run("SELECT pg_wal_replay_pause()", on=1)
    async with asyncio.timeout(20):
        while await cluster.run("SELECT pg_get_wal_replay_pause_state()", on=1) != "paused":
            await asyncio.sleep(0.01)
    yield cluster
    await cluster.run("SELECT pg_wal_replay_resume()", on=1)


@pytest.mark.anyio
async def test_a_replica_that_dies_is_left_out_and_taken_in_again(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = await asyncio.to_thread(own_postgres, durable=False, replicas=1)
    limits = ReplicaLimits(wait_s=0.1, look_s=0.05, max_lag_s=2.0)
    cluster = Cluster(server.url, server.replica_urls[0], limits)
    try:
        await cluster.servers.start()
        await cluster.is_taken_in()
        await asyncio.to_thread(server.kill, "replica-1")
        await cluster.is_taken_in(well=False)
        assert await cluster.pool_for(message(Freshness(0))) == "primary"
        # As if it had replayed far more before it fell than it has when it answers again.
        cluster.servers._replicas[0].replayed += 10**12
        await asyncio.to_thread(server.start)
        await cluster.is_taken_in()
        assert cluster.servers.states()[0].replayed < 10**12
        assert await cluster.pool_for(message(Freshness(0))) == "replica"
    finally:
        await cluster.close()


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["kill", "pause"])
async def test_who_needs_what_a_lost_replica_has_not_is_answered_at_once(
    own_postgres: Callable[..., OwnPostgres], fault: str
) -> None:
    server = await asyncio.to_thread(own_postgres, durable=False, replicas=1)
    limits = ReplicaLimits(wait_s=0.1, look_s=5.0, answer_s=0.5)  # nobody looks meanwhile
    cluster = Cluster(server.url, server.replica_urls[0], limits)
    try:
        await cluster.servers.start()
        async with asyncio.timeout(20):
            while not cluster.servers.states()[0].well:
                await cluster.servers._look_at(cluster.servers._replicas[0])
        touched = Freshness(0)
        assert await cluster.pool_for(message(touched)) == "replica"
        reading = asyncio.create_task(cluster.replica.take())
        held = await reading
        await asyncio.to_thread(getattr(server, fault), "replica-1")
        await cluster.run("CREATE TABLE more (n int)")
        began = time.monotonic()
        needed = Freshness(await cluster.servers.written())
        assert await cluster.pool_for(message(needed)) == "primary"
        assert time.monotonic() - began < 0.5
        # What it may have shown before it went is told all the same, and it is left out.
        assert await cluster.servers.seen(touched) >= needed.needed  # type: ignore[operator]
        assert await cluster.pool_for(message(Freshness(0))) == "primary"
        # Who waits for it is let go.
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
            await held.raw.fetchval("SELECT 1")
        cluster.replica.give_back(held)
    finally:
        if fault == "pause":
            server.resume("replica-1")
        await cluster.close()


@pytest.mark.anyio
async def test_without_the_primary_a_replica_answers_within_a_second_or_so(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = await asyncio.to_thread(own_postgres, durable=False, replicas=1)
    cluster = Cluster(server.url, server.replica_urls[0], ReplicaLimits(look_s=0.05))
    try:
        await cluster.servers.start()
        await cluster.is_taken_in()
        positions = Positions({}, {}, cluster.servers)
        await asyncio.to_thread(server.kill)
        async with asyncio.timeout(3):
            freshness = await positions.freshness(None)
        assert await cluster.pool_for(message(freshness)) == "replica"
    finally:
        await cluster.close()


@pytest.mark.anyio
async def test_a_replica_that_lags_for_long_is_not_waited_for(
    replicated_standing_still: Cluster,
) -> None:
    cluster = replicated_standing_still
    cluster.servers._limits = ReplicaLimits(wait_s=0.3, look_s=0.05, max_lag_s=60)
    await cluster.run("INSERT INTO seen VALUES (1)")
    async with asyncio.timeout(20):
        while cluster.servers.states()[0].lag_s < 0.5:
            await asyncio.sleep(0.01)
    freshness = Freshness(await cluster.servers.written())
    began = time.monotonic()
    assert await cluster.pool_for(message(freshness)) == "primary"
    assert time.monotonic() - began < 0.2


@given(st.integers(0, 10), st.integers(0, 10))
def test_a_record_that_may_be_half_replayed_is_counted_in(replayed: int, received: int) -> None:
    seen = decide_seen(replayed, received)
    assert seen == (replayed if received == replayed else replayed + 1)


@pytest.mark.parametrize(
    ("replayed", "lag_s"), [(0, 9.0), (10, 7.0), (19, 7.0), (20, 0.0), (25, 0.0)]
)
def test_lag_counts_from_the_first_thing_that_is_missing(replayed: int, lag_s: float) -> None:
    assert decide_lag_s([(1.0, 10), (3.0, 20)], replayed, 10.0) == lag_s


@pytest.mark.anyio
async def test_while_the_primary_is_gone_nobody_waits_long_to_hear_so(
    own_postgres: Callable[..., OwnPostgres],
) -> None:
    server = await asyncio.to_thread(own_postgres, durable=False, replicas=1)
    limits = ReplicaLimits(wait_s=0.1, look_s=0.05, max_lag_s=5.0)
    cluster = Cluster(server.url, server.replica_urls[0], limits)
    try:
        await cluster.servers.start()
        await cluster.is_taken_in()
        await asyncio.to_thread(server.kill)
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError):
                await cluster.servers.written()
            assert time.monotonic() - began < 3
        assert await cluster.pool_for(message(Freshness(0))) == "replica"
        await asyncio.to_thread(server.start)
        async with asyncio.timeout(20):
            while not cluster.primary.healthy:
                await asyncio.sleep(0.02)
        assert await cluster.servers.written() > 0
    finally:
        await cluster.close()
