"""Past events, once more into one subscription."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tenfold.runtimes.desk import NoSuchName, NotReplayable
from tenfold.runtimes.desk_service import DeskService
from tenfold.runtimes.topology import Topology
from tests.conformance.probe_bench import Probe

pytestmark = pytest.mark.anyio
FIRST = ["deposited 1", "deposited 2", "deposited 3"]


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    made = Probe(tmp_path, Topology())
    await made.start()
    for amount in (1, 2, 3):
        await made.ledger.deposit("a", amount)
        await made.settle()
        made.clock.jump(60)
    assert await made.audit.notes("a") == FIRST
    yield made
    await made.host.stop()


@pytest.fixture
def desk(probe: Probe) -> DeskService:
    return DeskService(probe.host, probe.clock)


async def test_a_subscription_hears_all_again_and_nobody_else_does(
    probe: Probe, desk: DeskService
) -> None:
    told = await desk.queue_replay("audit", "deposited")
    assert (told.added, told.ended) == (3, True)
    await probe.settle()
    assert await probe.audit.notes("a") == FIRST * 2
    assert await probe.audit.total("a") == 6
    await probe.ledger.deposit("a", 4)
    await probe.settle()
    assert (await probe.audit.notes("a"))[-1] == "deposited 4"


async def test_a_run_that_is_begun_again_has_no_effect_twice(
    probe: Probe, desk: DeskService
) -> None:
    first = await desk.queue_replay("audit", "deposited", limit=2)
    assert (first.added, first.ended) == (2, False)
    await probe.settle()
    again = await desk.queue_replay("audit", "deposited", upto=first.upto, run=first.run)
    assert again.added == 3
    await probe.settle()
    assert await probe.audit.notes("a") == FIRST * 2
    probe.clock.jump(1)
    await desk.queue_replay("audit", "deposited")  # another run
    await probe.settle()
    assert await probe.audit.notes("a") == FIRST * 3


async def test_a_replay_goes_on_at_the_position_where_a_bite_ended(
    probe: Probe, desk: DeskService
) -> None:
    bite = await desk.queue_replay("audit", "deposited", limit=2)
    rest = await desk.queue_replay(
        "audit", "deposited", after=bite.position, upto=bite.upto, run=bite.run, limit=2
    )
    assert (rest.added, rest.ended) == (1, True)
    await probe.settle()
    assert await probe.audit.notes("a") == FIRST * 2


async def test_a_replay_may_begin_and_end_anywhere(probe: Probe, desk: DeskService) -> None:
    rows = (await probe.host.modules["ledger"].outbox.read(0, ["ledger.Deposited"], 9)).rows
    told = await desk.queue_replay("audit", "deposited", after=rows[0].seq, upto=rows[1].seq)
    assert (told.added, told.ended) == (1, True)
    await probe.settle()
    assert await probe.audit.notes("a") == [*FIRST, "deposited 2"]


@pytest.mark.parametrize(("back_s", "count"), [(10_000, 3), (125, 2), (61, 1), (0, 0)])
async def test_a_replay_may_begin_at_a_moment(
    probe: Probe, desk: DeskService, back_s: int, count: int
) -> None:
    since = probe.clock.now() - timedelta(seconds=back_s)
    told = await desk.queue_replay("audit", "deposited", since=since)
    assert (told.added, told.ended) == (count, True)
    await probe.settle()
    assert await probe.audit.notes("a") == FIRST + FIRST[3 - count :]


async def test_one_that_takes_batches_gets_them_one_by_one(probe: Probe, desk: DeskService) -> None:
    await probe.ledger.meter("b", [1, 2])
    async with asyncio.timeout(10):
        while await probe.audit.notes("b") != ["1,2"]:
            await asyncio.sleep(0.005)
    assert (await desk.queue_replay("audit", "metered")).added == 2
    await probe.settle()
    assert await probe.audit.notes("b") == ["1,2", "1", "2"]


async def test_what_has_no_past_is_refused(desk: DeskService) -> None:
    with pytest.raises(NotReplayable) as caught:
        await desk.queue_replay("ledger", "interest")
    assert "no subscription" in caught.value.why
    with pytest.raises(NotReplayable) as caught:
        await desk.queue_replay("audit", "totals.deposited")
    assert "tenfold projections rebuild audit totals" in caught.value.why
    with pytest.raises(NoSuchName):
        await desk.queue_replay("audit", "nothing")
