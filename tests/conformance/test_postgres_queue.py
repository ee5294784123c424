"""The queue on PostgreSQL passes the suite of its ports, and what only many processes show."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tenfold.testing import delivery_suite, queue_suite
from tests.conformance.postgres_queue_bench import QueueBench

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[QueueBench]:
    made = QueueBench(postgres_url)
    await made.open()
    yield made
    await made.close()


class TestClaims(queue_suite.ClaimCases): ...


class TestLanes(queue_suite.LaneCases): ...


class TestLostClaims(queue_suite.LostClaimCases): ...


class TestUnique(delivery_suite.UniqueCases): ...


class TestDelivery(delivery_suite.DeliveryCases): ...


class TestDesk(delivery_suite.DeskCases): ...
