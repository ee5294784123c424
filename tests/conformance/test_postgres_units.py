"""Units of work on PostgreSQL pass the suite of the model's rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tenfold.testing import batch_suite, call_suite, unit_suite
from tests.conformance.postgres_bench import PostgresProbe


@pytest.fixture
async def bench(postgres_url: str, tmp_path: Path) -> AsyncIterator[PostgresProbe]:
    made = PostgresProbe(postgres_url, tmp_path)
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
