"""The counter in Valkey passes the suite; what happens when its server does not answer."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from tenfold.adapters.valkey.limits import ValkeyCounter
from tenfold.contracts.errors import Outcome
from tenfold.ports.limits import CounterUnavailableError, Rate
from tenfold.testing import limits_suite
from tenfold.testing.limits_suite import THREE

# The product's own 50 ms are for a machine that is not running a whole test suite meanwhile.
PATIENT_MS = 5_000


class ValkeyBench:
    shared = True

    def __init__(self, url: str) -> None:
        self._url = url
        self.made: list[ValkeyCounter] = []
        self.counter = self.another()

    def another(self) -> ValkeyCounter:
        made = ValkeyCounter(self._url, namespace="test", timeout_ms=PATIENT_MS)
        self.made.append(made)
        return made

    async def into_window(self, rate: Rate, share: float) -> None:
        """By this machine's clock, which is the server's; a window that is long has room."""
        into_s = time.time() % rate.window_s
        if rate.window_s > 10 and into_s < rate.window_s - 10:
            return
        await asyncio.sleep((share * rate.window_s - into_s) % rate.window_s + 0.01)

    async def pass_s(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
async def bench(valkey_url: str) -> AsyncIterator[ValkeyBench]:
    made = ValkeyBench(valkey_url)
    await made.counter.take("warm", THREE, 1)
    yield made
    for counter in made.made:
        await counter.close()


class TestCounter(limits_suite.CounterCases): ...


@pytest.mark.anyio
async def test_nothing_that_names_anybody_is_in_a_key(bench: ValkeyBench) -> None:
    await bench.counter.take("orders|p='ada@example.com'|a=192.0.2.7", THREE, 1)
    keys = await bench.counter._client.keys("*")
    assert keys
    assert not any(b"ada" in key or b"192.0.2.7" in key for key in keys)


@pytest.mark.anyio
async def test_a_server_that_is_away_is_told_within_the_bound() -> None:
    with socket.socket() as silent:  # it takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        counter = ValkeyCounter(f"valkey://127.0.0.1:{silent.getsockname()[1]}/0", timeout_ms=50)
        began = time.monotonic()
        with pytest.raises(CounterUnavailableError) as caught:
            await counter.take("a", THREE, 1)
        assert time.monotonic() - began < 2.0
        assert caught.value.outcome is Outcome.NOT_DONE
        await counter.close()
