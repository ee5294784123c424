"""A slot keeps its process running, whatever stands in the way of starting it again."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, cast

import pytest

from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.processes import PlannedProcess, Splitting
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import ProcessSettings
from tenfold.runtimes.slots import Slot


class Process:
    """As much of a process as a slot sees: ready at once, ended when it is told to be."""

    served_s = 0.0

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = asyncio.Event()

    @property
    def alive(self) -> bool:
        return not self.ended.is_set()

    def how(self) -> str:
        return "was killed by SIGKILL"

    async def divert(self, share: float, _: float) -> SplitCounts:
        self.share = share
        return SplitCounts(here=1)

    async def begun(self) -> str:
        return ""

    async def stop(self, _: DrainOrder) -> None:
        self.ended.set()


@pytest.mark.anyio
async def test_a_process_that_the_system_could_not_start_is_tried_again() -> None:
    started: list[Process] = []
    again = asyncio.Event()
    failures = [BlockingIOError(11, "Resource temporarily unavailable")]

    def spawn(_: PlannedProcess) -> Any:
        if started and failures:
            raise failures.pop()
        started.append(Process(len(started) + 1))
        if len(started) == 2:
            again.set()
        return started[-1]

    settings = ProcessSettings(restart_min_s=0.01, restart_max_s=0.02)
    slot = Slot(PlannedProcess(name="web-1", role=Role.WEB), settings, spawn, Random(7))
    await slot.begin()
    started[0].ended.set()
    async with asyncio.timeout(20):
        await again.wait()
    assert not failures
    await slot.end(DrainOrder())


@pytest.mark.anyio
async def test_a_share_is_told_and_stays_with_whoever_is_started_again() -> None:
    planned: list[PlannedProcess] = []
    started: list[Process] = []
    again = asyncio.Event()

    def spawn(each: PlannedProcess) -> Any:
        planned.append(each)
        started.append(Process(len(started) + 1))
        if len(started) == 2:
            again.set()
        return started[-1]

    settings = ProcessSettings(restart_min_s=0.01, restart_max_s=0.02)
    both = Splitting(service="pay", share=0.01)
    slot = Slot(
        PlannedProcess(name="web-1", role=Role.WEB, splitting=both), settings, spawn, Random(7)
    )
    await slot.begin()
    assert await slot.divert(0.25, 1.0) == SplitCounts(here=1)
    assert started[0].share == 0.25
    started[0].ended.set()
    assert await slot.divert(0.5, 1.0) is None, "there is nobody to be told at this moment"
    async with asyncio.timeout(20):
        await again.wait()
    assert planned[1].splitting == Splitting(service="pay", share=0.5)
    await slot.end(DrainOrder())


@pytest.mark.anyio
async def test_who_splits_nothing_is_told_nothing() -> None:
    process = Process(1)
    slot = Slot(
        PlannedProcess(name="pay-1", role=Role.ALL, service="pay"),
        ProcessSettings(),
        lambda _: cast("Any", process),
        Random(7),
    )
    await slot.begin()
    assert await slot.divert(0.25, 1.0) is None
    assert not hasattr(process, "share")
    await slot.end(DrainOrder())
