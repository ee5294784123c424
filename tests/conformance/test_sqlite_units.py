"""Units of work on SQLite pass the suite of the model's rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenfold.runtimes.topology import Topology
from tenfold.testing import batch_suite, call_suite, unit_suite
from tests.conformance.probe_bench import Probe


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Probe]:
    made = Probe(tmp_path, Topology())
    await made.start()
    yield made
    await made.host.stop()


class TestAtomic(unit_suite.AtomicCases): ...


class TestOwnership(unit_suite.OwnershipCases): ...


class TestGather(unit_suite.GatherCases): ...


class TestCalls(call_suite.CallCases): ...


class TestIsolation(unit_suite.IsolationCases): ...


class TestKeyed(unit_suite.KeyedCases): ...


class TestPositions(unit_suite.PositionCases): ...


class TestTenants(unit_suite.TenantCases): ...


class TestBackground(call_suite.BackgroundCases): ...


class TestBatches(batch_suite.BatchCases): ...
