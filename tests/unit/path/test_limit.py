from __future__ import annotations

import asyncio

import pytest

from tenfold.path.limit import Limit, SharedTimer


async def for_ever() -> None:
    await asyncio.Event().wait()


async def at_once() -> int:
    return 3


@pytest.mark.anyio
async def test_what_ends_in_time_is_answered() -> None:
    async def after_a_step() -> int:
        await asyncio.sleep(0)
        return 4

    limit = Limit(60)
    assert await limit.run(at_once()) == 3
    assert await limit.run(after_a_step()) == 4
    assert not limit.expired()


@pytest.mark.anyio
async def test_what_takes_too_long_is_cancelled_and_told() -> None:
    limit = Limit(0.001)
    with pytest.raises(TimeoutError):
        await limit.run(for_ever())
    assert limit.expired()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_timeout_of_the_work_s_own_is_not_the_limit_s() -> None:
    async def own() -> None:
        await asyncio.sleep(0)
        raise TimeoutError

    limit = Limit(60)
    with pytest.raises(TimeoutError):
        await limit.run(own())
    assert not limit.expired()


@pytest.mark.anyio
async def test_a_cancellation_from_outside_goes_through() -> None:
    seen: list[bool] = []

    async def work() -> None:
        limit = Limit(60)
        try:
            await limit.run(for_ever())
        except asyncio.CancelledError:
            seen.append(limit.expired())
            raise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert seen == [False]


@pytest.mark.anyio
async def test_limits_within_limits_each_end_their_own_work() -> None:
    inner, outer = Limit(0.001), Limit(60)

    async def work() -> str:
        with pytest.raises(TimeoutError):
            await inner.run(for_ever())
        await asyncio.sleep(0)
        return "went on"

    assert await outer.run(work()) == "went on"
    assert (inner.expired(), outer.expired()) == (True, False)


@pytest.mark.anyio
async def test_work_that_ignores_its_cancellation_ends_as_it_likes() -> None:
    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done anyway"
        return ""

    limit = Limit(0.001)
    assert await limit.run(stubborn()) == "done anyway"
    assert limit.expired()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.anyio
async def test_a_shared_timer_rings_whoever_is_late_and_nobody_else() -> None:
    timer = SharedTimer()
    loop = asyncio.get_running_loop()
    began = loop.time()
    in_time = Limit(60, timer)

    async def after_the_others() -> int:
        with pytest.raises(TimeoutError):
            await Limit(1.0, timer).run(for_ever())
        return 5

    assert await in_time.run(after_the_others()) == 5
    assert not in_time.expired()
    assert 1.0 <= loop.time() - began < 60


@pytest.mark.anyio
async def test_a_shared_timer_is_never_early_and_a_short_limit_has_its_own() -> None:
    timer = SharedTimer()
    loop = asyncio.get_running_loop()
    limit = Limit(0.01, timer)
    began = loop.time()
    with pytest.raises(TimeoutError):
        await limit.run(for_ever())
    assert loop.time() - began < 1.0
    slot = timer.add(loop, limit, 2.0)
    assert slot * 0.05 >= loop.time() + 2.0 - 0.001
    timer.discard(slot, limit)
    timer.discard(slot, limit)
