"""What every counter of rate limits must do: the conformance cases of the port.

An adapter's test file subclasses the class below and gives a fixture `bench`.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import pytest

from tenfold.ports.limits import Rate, SharedCounter

__all__ = ["CounterBench", "CounterCases"]

THREE = Rate(3, 60)
SHORT = Rate(4, 2)


class CounterBench(Protocol):
    """What an adapter's tests hand to the cases: a counter that has counted nothing.

    `shared` is false for one that only its own process sees; the case that needs
    two processes is then skipped.
    """

    counter: SharedCounter
    shared: bool

    def another(self) -> SharedCounter:
        """The same counter as another process sees it."""
        ...

    async def into_window(self, rate: Rate, share: float) -> None:
        """Let time pass until about so much of a fixed window is over, up to nine tenths."""
        ...

    async def pass_s(self, seconds: float) -> None:
        """Let so much time pass by the counter's clock, and hardly more."""
        ...


@pytest.mark.anyio
class CounterCases:
    """Cases of `SharedCounter`."""

    async def test_it_grants_the_limit_and_no_more(self, bench: CounterBench) -> None:
        await bench.into_window(THREE, 0.0)
        granted = [(await bench.counter.take("a", THREE, 1)).granted for _ in range(5)]
        assert granted == [1, 1, 1, 0, 0]

    async def test_it_says_what_is_left_and_when_more_comes(self, bench: CounterBench) -> None:
        await bench.into_window(THREE, 0.0)
        first = await bench.counter.take("a", THREE, 2)
        assert (first.granted, first.left, first.retry_s) == (2, 1, 0.0)
        last = await bench.counter.take("a", THREE, 1)
        assert (last.granted, last.left) == (1, 0)
        assert 0 < last.retry_s <= 2 * THREE.window_s

    async def test_it_grants_part_of_what_is_wanted(self, bench: CounterBench) -> None:
        await bench.into_window(THREE, 0.0)
        assert (await bench.counter.take("a", THREE, 2)).granted == 2
        assert (await bench.counter.take("a", THREE, 2)).granted == 1

    async def test_what_is_refused_is_not_counted(self, bench: CounterBench) -> None:
        await bench.into_window(SHORT, 0.0)
        await bench.counter.take("a", SHORT, 4)
        refused = await bench.counter.take("a", SHORT, 4)
        for _ in range(20):
            await bench.counter.take("a", SHORT, 4)
        await bench.pass_s(refused.retry_s + 0.05)
        assert (await bench.counter.take("a", SHORT, 1)).granted == 1

    async def test_keys_and_rates_are_counted_apart(self, bench: CounterBench) -> None:
        await bench.into_window(THREE, 0.0)
        await bench.counter.take("a", THREE, 3)
        assert (await bench.counter.take("b", THREE, 3)).granted == 3
        assert (await bench.counter.take("a", Rate(3, 3600), 3)).granted == 3

    async def test_the_window_slides(self, bench: CounterBench) -> None:
        """What came late in one fixed window still counts early in the next."""
        await bench.into_window(SHORT, 0.8)
        await bench.counter.take("a", SHORT, 4)
        await bench.pass_s(0.25 * SHORT.window_s)
        assert (await bench.counter.take("a", SHORT, 4)).granted == 0

    async def test_after_two_windows_all_is_forgotten(self, bench: CounterBench) -> None:
        await bench.into_window(SHORT, 0.0)
        await bench.counter.take("a", SHORT, 4)
        await bench.pass_s(2.0 * SHORT.window_s + 0.05)
        assert (await bench.counter.take("a", SHORT, 4)).granted == 4

    async def test_one_more_is_granted_when_it_was_said(self, bench: CounterBench) -> None:
        await bench.into_window(SHORT, 0.3)
        await bench.counter.take("a", SHORT, 4)
        refused = await bench.counter.take("a", SHORT, 1)
        assert refused.granted == 0
        await bench.pass_s(refused.retry_s + 0.05)
        assert (await bench.counter.take("a", SHORT, 1)).granted == 1

    async def test_two_processes_share_one_limit(self, bench: CounterBench) -> None:
        if not bench.shared:
            pytest.skip("a counter that only its own process sees")
        await bench.into_window(THREE, 0.0)
        other = bench.another()
        grants = await asyncio.gather(
            *(counter.take("a", THREE, 1) for counter in (bench.counter, other) * 4)
        )
        assert sum(grant.granted for grant in grants) == 3
