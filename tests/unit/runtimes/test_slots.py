"""A slot keeps its process running, whatever stands in the way of starting it again."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import pytest

from tenfold.runtimes.draining import DrainOrder
from tenfold.runtimes.processes import PlannedProcess
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
