"""The counter in memory passes the suite."""

from __future__ import annotations

import pytest

from tenfold.adapters.memory.limits import MemoryCounter
from tenfold.ports.limits import Rate
from tenfold.testing import limits_suite
from tenfold.testing.clock import HeldClock
from tenfold.testing.limits_suite import THREE


class MemoryBench:
    shared = False

    def __init__(self) -> None:
        self.clock = HeldClock()
        self.counter = MemoryCounter(self.clock)

    def another(self) -> MemoryCounter:
        raise NotImplementedError

    async def into_window(self, rate: Rate, share: float) -> None:
        into_s = self.clock.now().timestamp() % rate.window_s
        self.clock.jump((share * rate.window_s - into_s) % rate.window_s)

    async def pass_s(self, seconds: float) -> None:
        self.clock.jump(seconds)


@pytest.fixture
def bench() -> MemoryBench:
    return MemoryBench()


class TestCounter(limits_suite.CounterCases): ...


@pytest.mark.anyio
async def test_it_forgets_what_was_begun_first_when_it_is_full() -> None:
    counter = MemoryCounter(HeldClock(), most_keys=2)
    for key in ("a", "b", "c"):
        await counter.take(key, THREE, 3)
    assert (await counter.take("c", THREE, 1)).granted == 0
    assert (await counter.take("a", THREE, 1)).granted == 1
