"""The pool of connections: bounded, fair, clean, and back after the server was away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tenfold.adapters.postgres.pool import Pool, Pooled, PoolSettings
from tenfold.adapters.postgres.session import PoolSession
from tenfold.contracts.errors import Outcome, StoreUnavailableError
from tests.servers import ReplicatedPostgres
from tests.unit.postgres.proxy import Proxy

pytestmark = pytest.mark.anyio

PID = "SELECT pg_backend_pid()"
ISOLATION = "SELECT current_setting('transaction_isolation')"


@pytest.fixture
async def make(postgres_url: str) -> AsyncIterator[Callable[..., Pool]]:
    """Makes pools, which are closed at the end."""
    made: list[Pool] = []

    def pool(url: str = postgres_url, **settings: Any) -> Pool:
        made.append(Pool(PoolSettings(url=url, **settings)))
        return made[-1]

    yield pool
    for each in made:
        await each.close(1.0)


async def pid(pooled: Pooled) -> int:
    found: int = await pooled.raw.fetchval(PID)
    return found


async def test_there_are_never_more_than_so_many(make: Callable[..., Pool]) -> None:
    pool = make(size=3)

    async def use() -> int:
        pooled = await pool.take()
        try:
            assert pool.statistics().open <= 3
            return await pid(pooled)
        finally:
            pool.give_back(pooled)

    assert pool.statistics().open == 0, "they are made when they are asked for"
    pids = await asyncio.gather(*(use() for _ in range(30)))
    assert len(set(pids)) <= 3
    assert pool.statistics().connected <= 3
    while pool.statistics().idle < pool.statistics().open:  # some were still being made
        await asyncio.sleep(0.005)
    assert pool.statistics().open <= 3


async def test_whoever_asks_first_is_served_first(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    served: list[int] = []

    async def use(number: int) -> None:
        pooled = await pool.take()
        served.append(number)
        await asyncio.sleep(0)
        pool.give_back(pooled)

    waiting = []
    for number in range(10):
        waiting.append(asyncio.ensure_future(use(number)))
        await asyncio.sleep(0)
    assert pool.statistics().waiting == 10
    pool.give_back(held)
    await asyncio.gather(*waiting)
    assert served == list(range(10))


async def test_a_statement_of_its_own_runs_in_the_isolation_that_was_asked_for(
    make: Callable[..., Pool],
) -> None:
    pool = make(size=1)
    for serializable, isolation in [(False, "read committed"), (True, "serializable")] * 2:
        pooled = await pool.take(serializable)
        assert await pooled.raw.fetchval(ISOLATION) == isolation
        pool.give_back(pooled)
    assert pool.statistics().connected == 1


async def test_who_fits_is_let_past_a_few_times_and_nobody_for_ever(
    make: Callable[..., Pool],
) -> None:
    pool = make(size=1)
    held = await pool.take(True)
    served: list[int] = []

    async def use(number: int, serializable: bool) -> None:
        pooled = await pool.take(serializable)
        served.append(number)
        pool.give_back(pooled)

    waiting = [asyncio.ensure_future(use(0, False))]
    await asyncio.sleep(0)
    waiting += [asyncio.ensure_future(use(number, True)) for number in range(1, 21)]
    await asyncio.sleep(0)
    pool.give_back(held)
    await asyncio.gather(*waiting)
    assert served.index(0) == 8
    assert sorted(served) == list(range(21))


async def test_somebody_who_gave_up_holds_nobody_up(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    impatient = asyncio.ensure_future(pool.take())
    await asyncio.sleep(0)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    pool.give_back(held)
    pooled = await pool.take(deadline=time.monotonic() + 1)
    pool.give_back(pooled)
    pooled = await pool.take(True, deadline=time.monotonic() + 1)
    pool.give_back(pooled)
    assert pool.statistics().idle == 1


async def test_who_is_cancelled_as_it_is_served_gives_back(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    unlucky = asyncio.ensure_future(pool.take())
    await asyncio.sleep(0)
    pool.give_back(held)
    unlucky.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unlucky
    assert pool.statistics().idle == 1


async def test_a_wait_ends_before_its_deadline_and_says_why(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    deadline = time.monotonic() + 0.2
    with pytest.raises(StoreUnavailableError, match="All 1 connections") as caught:
        await pool.take(deadline=deadline)
    assert time.monotonic() < deadline + 0.1
    assert caught.value.outcome is Outcome.NOT_DONE
    pool.give_back(held)


async def test_a_connection_is_handed_on_clean(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    pooled = await pool.take()
    first = await pid(pooled)
    await pooled.raw.execute("BEGIN; CREATE TABLE half_done (n int)")
    pool.give_back(pooled)
    pooled = await pool.take()
    assert await pooled.raw.fetchval("SELECT to_regclass('half_done')") is None
    assert await pid(pooled) == first
    pool.give_back(pooled)


async def test_a_cancelled_statement_costs_no_connection(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    pooled = await pool.take()
    sleeping = asyncio.ensure_future(pooled.raw.execute("SELECT pg_sleep(30)"))
    await asyncio.sleep(0.05)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping
    pool.give_back(pooled)
    pooled = await pool.take(deadline=time.monotonic() + 5)
    assert await pid(pooled) > 0
    pool.give_back(pooled)
    assert pool.statistics().connected == 1


async def test_after_one_was_lost_none_that_stood_beside_it_is_used(
    make: Callable[..., Pool],
) -> None:
    pool = make(size=3)
    standing = [await pool.take() for _ in range(3)]
    old = {await pid(pooled) for pooled in standing}
    pool.give_back(standing[0])
    pool.lose(standing[1], ConnectionError("the server has failed over"))
    pool.give_back(standing[2])
    new = [await pool.take() for _ in range(3)]
    assert not old & {await pid(pooled) for pooled in new}
    for pooled in new:
        pool.give_back(pooled)
    assert pool.statistics().lost == 1


async def test_it_connects_again_when_the_server_is_back(
    make: Callable[..., Pool], proxy: Proxy, postgres_url: str
) -> None:
    pool = make(proxy.url)
    await proxy.stop()
    waiting = asyncio.ensure_future(pool.take(deadline=time.monotonic() + 10))
    while pool.healthy:
        await asyncio.sleep(0.01)
    await proxy.start_again()
    pool.give_back(await waiting)
    assert pool.healthy
    assert pool.statistics().failed >= 1


async def test_a_server_that_is_away_is_told_with_the_way_to_mend_it(
    make: Callable[..., Pool], proxy: Proxy
) -> None:
    pool = make(proxy.url, wait_s=0.2)
    await proxy.stop()
    answers = await asyncio.gather(*(pool.take() for _ in range(5)), return_exceptions=True)
    for answer in answers:
        assert isinstance(answer, StoreUnavailableError)
        assert answer.outcome is Outcome.NOT_DONE
        assert "could not be reached" in str(answer)
        assert "See whether the server runs" in str(answer)


async def test_a_database_that_is_not_there_is_told_at_once(
    make: Callable[..., Pool], postgres_url: str
) -> None:
    pool = make(postgres_url + "_nowhere", wait_s=30.0)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="does not exist"):
        await pool.take()
    assert time.monotonic() - began < 5


async def test_of_several_hosts_the_one_that_takes_writes_is_used(
    make: Callable[..., Pool], replicated_postgres: ReplicatedPostgres
) -> None:
    primary = replicated_postgres.url.rpartition("@")[2].partition("/")[0]
    replica = replicated_postgres.replica_url.rpartition("@")[2].partition("/")[0]
    pool = make(replicated_postgres.url.replace(primary, f"{replica},{primary}"))
    pooled = await pool.take()
    assert await pooled.raw.fetchval("SELECT pg_is_in_recovery()") is False
    pool.give_back(pooled)


async def test_a_pool_that_is_closed_hands_out_nothing(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    waiting = asyncio.ensure_future(pool.take())
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close(5.0))
    with pytest.raises(StoreUnavailableError, match="are closed"):
        await waiting
    pool.give_back(held)
    await closing
    with pytest.raises(StoreUnavailableError, match="are closed"):
        await pool.take()
    assert pool.statistics().open == 0


async def test_a_close_waits_no_longer_than_it_may(make: Callable[..., Pool]) -> None:
    pool = make(size=1)
    held = await pool.take()
    began = time.monotonic()
    await pool.close(0.2)
    assert time.monotonic() - began < 2
    assert held.raw.is_closed()


# --- The platform's own work ---------------------------------------------------------------------


async def test_the_platforms_work_is_read_committed(make: Callable[..., Pool]) -> None:
    session = PoolSession(make(), 'the "shed"')
    assert session.schema == '"the ""shed"""'
    assert await session.write(lambda c: c.fetchval(ISOLATION)) == "read committed"
    assert await session.read(lambda c: c.fetchval(ISOLATION)) == "read committed"


async def test_work_that_lost_against_another_runs_again(make: Callable[..., Pool]) -> None:
    session = PoolSession(make(), "shed")
    times = 0

    async def work(connection: Any) -> int:
        nonlocal times
        times += 1
        if times < 3:
            await connection.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        return times

    assert await session.write(work) == 3


async def test_work_that_fails_leaves_nothing(make: Callable[..., Pool]) -> None:
    session = PoolSession(make(), "shed")

    async def fails(connection: Any) -> None:
        await connection.execute("CREATE TABLE half_done (n int)")
        raise ZeroDivisionError

    async def swallows(connection: Any) -> None:
        await connection.execute("CREATE TABLE half_done (n int)")
        try:
            await connection.execute("SELECT 1 / 0")
        except Exception:
            pass

    with pytest.raises(ZeroDivisionError):
        await session.write(fails)
    with pytest.raises(StoreUnavailableError, match="an error in it was caught"):
        await session.write(swallows)
    assert await session.read(lambda c: c.fetchval("SELECT to_regclass('half_done')")) is None


@pytest.mark.parametrize("word", [b"BEGIN", b"CREATE"])
async def test_work_whose_connection_was_lost_before_the_commit_runs_again(
    make: Callable[..., Pool], proxy: Proxy, word: bytes
) -> None:
    session = PoolSession(make(proxy.url), "shed")
    proxy.cut(word, "after")
    await session.write(lambda c: c.execute("CREATE TABLE made (n int)"))
    assert proxy.cuts == 1
    assert await session.read(lambda c: c.fetchval("SELECT to_regclass('made')::text")) == "made"


async def test_work_whose_commit_was_lost_may_be_done(
    make: Callable[..., Pool], proxy: Proxy
) -> None:
    session = PoolSession(make(proxy.url), "shed")
    proxy.cut(b"COMMIT\0", "after")
    with pytest.raises(StoreUnavailableError) as caught:
        await session.write(lambda c: c.execute("CREATE TABLE made (n int)"))
    assert caught.value.outcome is Outcome.MAYBE_DONE
