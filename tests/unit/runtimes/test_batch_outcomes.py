"""How batches of events end, as the metrics tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tenfold.contracts.errors import DeadlineExceededError, LeaseLostError, OverloadedError
from tenfold.path.batches import Batches
from tenfold.runtimes.topology import Topology
from tests.conformance.probe_bench import Probe

pytestmark = pytest.mark.anyio


@pytest.fixture
async def probe(tmp_path: Path) -> AsyncIterator[Probe]:
    made = Probe(tmp_path, Topology())
    await made.start()
    yield made
    await made.host.stop()


async def told(probe: Probe) -> set[str]:
    """How the batches of one event have ended."""
    await probe.ledger.meter("a", [1])
    stop = probe.host.modules["audit"].resources.stops.handle
    async with asyncio.timeout(10):
        while True:
            found = {each.outcome for each in stop.snapshot() if each.label == "audit.metered"}
            if found:
                return found
            await asyncio.sleep(0.001)


async def test_one_that_is_committed_is_ok(probe: Probe) -> None:
    assert await told(probe) == {"ok"}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ZeroDivisionError(), "fault"),
        (DeadlineExceededError("It took too long."), "timeout"),
        (OverloadedError("Full."), "error"),
        (LeaseLostError("Another has it."), "lost"),
        (asyncio.CancelledError(), "fault"),
    ],
)
async def test_one_that_fails_says_how(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, error: BaseException, outcome: str
) -> None:
    async def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(Batches, "_handle", fail)
    assert await told(probe) == {outcome}


async def test_one_whose_commit_was_not_told_is_ok(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = Batches._handle

    async def lose_the_answer(*arguments: Any) -> None:
        await handle(*arguments)
        raise ConnectionResetError

    monkeypatch.setattr(Batches, "_handle", lose_the_answer)
    assert await told(probe) == {"ok"}
    assert await probe.audit.notes("a") == ["1"]
