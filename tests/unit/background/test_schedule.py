"""Schedules over a SQLite queue and a held clock."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tenfold.contracts.errors import ContractError
from tenfold.path.schedule import ScheduleParts, Schedules, decide_next_fire
from tests.unit.background.conftest import Crew
from tests.unit.background.test_worker import rest

pytestmark = pytest.mark.anyio


def schedules(crew: Crew, cron: str = "*/5 * * * *") -> Schedules:
    return Schedules(
        ScheduleParts(
            module="shop",
            queue=crew.bench.queue,
            desk=crew.bench.queue,
            worker=crew.workers[0] if crew.workers else crew.worker(),
            clock=crew.bench.clock,
            crons={"work": cron},
            make_body=lambda handler, message_id, at: message_id.encode(),
        )
    )


def test_the_next_time_is_strictly_later_and_in_utc() -> None:
    noon = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
    assert decide_next_fire("*/5 * * * *", noon) == noon.replace(minute=5)
    assert decide_next_fire("0 0 * * *", noon) == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize("cron", ["", "every day", "61 * * * *", "* * * *"])
def test_a_malformed_expression_is_refused(cron: str) -> None:
    with pytest.raises(ContractError, match="cron"):
        decide_next_fire(cron, datetime(2026, 11, 20, tzinfo=UTC))


async def test_each_time_runs_once_however_often_it_is_ensured(crew: Crew) -> None:
    plan = schedules(crew)
    worker = crew.workers[0]
    worker.start()
    for _ in range(3):
        await plan.ensure()
        await plan.ensure()
        crew.bench.clock.jump(300)
        await rest(worker)
    assert crew.handled == [f"shop.work@2026-11-20T12:{m:02}:00+00:00" for m in (5, 10, 15)]


async def test_times_that_passed_while_it_was_down_are_made_up_for_by_one_run(crew: Crew) -> None:
    await schedules(crew).ensure()
    crew.bench.clock.jump(3600)
    again = schedules(crew)
    await again.forget_changed()
    assert await again.ensure() == datetime(2026, 11, 20, 13, 5, tzinfo=UTC)
    crew.workers[0].start()
    await rest(crew.workers[0])
    assert len(crew.handled) == 1


async def test_a_changed_expression_takes_the_place_of_the_old_one(crew: Crew) -> None:
    await schedules(crew).ensure()
    changed = schedules(crew, "0 15 * * *")
    assert await changed.forget_changed() == 1
    await changed.ensure()
    (view,) = await crew.bench.queue.entries(state=None, handler=None, after=0, limit=9)
    assert view.run_at == datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
