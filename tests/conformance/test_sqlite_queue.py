"""The queue on SQLite passes the suite of its ports."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

import pytest

from tenfold.adapters.sqlite.queue import SqliteQueue
from tenfold.testing import delivery_suite, queue_suite
from tenfold.testing.queue_suite import LEASE_S, claim, entry, names, take
from tests.conformance.sqlite_bench import FileSession, SqliteBench

T = TypeVar("T")


class TestClaims(queue_suite.ClaimCases): ...


class TestLanes(queue_suite.LaneCases): ...


class TestLostClaims(queue_suite.LostClaimCases): ...


class TestUnique(delivery_suite.UniqueCases): ...


class TestDelivery(delivery_suite.DeliveryCases): ...


class TestDesk(delivery_suite.DeskCases): ...


@pytest.mark.anyio
async def test_a_writer_that_is_held_up_beyond_the_lease_costs_no_claim(
    bench: SqliteBench,
) -> None:
    class HeldUp(FileSession):
        async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
            bench.clock.jump(LEASE_S + 10)
            return await super().write(work)

    bench.sessions.append(HeldUp(bench.file))
    slow = SqliteQueue(bench.sessions[-1], bench.clock)
    await bench.queue.add([entry("a"), entry("b")])
    first = await claim(bench.queue, 1)
    second = await claim(slow, 1)
    assert (names(first), names(second)) == (["a"], ["b"])
    after = await take(bench.queue, 9, renew=(first.fence, second.fence))
    assert (after.lost, after.claim) == ([], None)
