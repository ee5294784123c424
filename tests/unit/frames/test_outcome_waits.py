"""Calls that wait for an outcome where they were sent: they tell nothing of how fast it works."""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Any

import pytest

from tests.unit.frames.test_containment import carrying, start

__all__ = ["start"]  # the fixture
pytestmark = pytest.mark.anyio


async def test_a_wait_for_an_outcome_does_not_make_a_process_look_slow(start: Any) -> None:
    fleet = await start(2)
    for _ in range(100):
        await fleet.call("order")
    usual_s = fleet.usual_s("order")
    for process in fleet.processes:
        process.begun.clear()
        process.release.clear()
    waiting = asyncio.create_task(fleet.call("order", wait_s=5.0))
    at = await carrying(fleet)
    await asyncio.sleep(0.2)
    (standing,) = (
        each.standing for each in fleet.remote._connections.endpoints if each.standing.outstanding
    )
    assert standing.slowness_at(monotonic()) < 0.2 / usual_s / 2
    at.release.set()
    assert await waiting == at.name
    assert standing.slowness_at(monotonic()) < 0.2 / usual_s / 2
    assert fleet.usual_s("order") == usual_s


async def test_only_waits_for_outcomes_tell_nothing_of_what_is_usual(start: Any) -> None:
    fleet = await start(1)
    for _ in range(3):
        await fleet.call("order", wait_s=5.0)
    assert fleet.usual_s("order") == inf


async def test_who_leaves_while_an_outcome_is_waited_for_says_nothing_against_the_process(
    start: Any,
) -> None:
    fleet = await start(2)
    for _ in range(60):
        await fleet.call("order")
    for process in fleet.processes:
        process.release.clear()
    waiting = [
        asyncio.create_task(fleet.call("order", timeout_s=0.1, wait_s=5.0)) for _ in range(100)
    ]
    await asyncio.sleep(0.15)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert fleet.statistics.endpoints["well"] == 2
    assert fleet.circuit("order") == "closed"


async def test_what_has_no_outcome_to_wait_for_tells_what_is_usual_though_a_wait_was_asked_for(
    start: Any,
) -> None:
    fleet = await start(1)
    for _ in range(60):
        await fleet.call("grind", key="k", wait_s=5.0)
    assert fleet.usual_s("grind") < inf
