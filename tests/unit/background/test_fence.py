"""The look at a claim that a completing write takes in its own transaction."""

from __future__ import annotations

import pytest

from tenfold.adapters.sqlite.records import claim_alive
from tenfold.testing.queue_suite import claim, entry, finish, keep
from tests.conformance.sqlite_bench import SqliteBench

pytestmark = pytest.mark.anyio


async def test_a_worker_that_was_paused_beyond_its_lease_writes_nothing(bench: SqliteBench) -> None:
    await bench.queue.add([entry("a")])
    paused = await claim(bench.queue)
    assert await bench.session.write(lambda c: claim_alive(c, paused.fence))
    bench.clock.jump(60)
    # Nobody has taken its entries: it is late, but still the only one.
    assert await bench.session.write(lambda c: claim_alive(c, paused.fence))
    other = await claim(bench.another())
    assert not await bench.session.write(lambda c: claim_alive(c, paused.fence))
    assert await bench.session.write(lambda c: claim_alive(c, other.fence))


async def test_a_finished_claim_is_no_leave_to_write(bench: SqliteBench) -> None:
    await bench.queue.add([entry("a")])
    held = await claim(bench.queue)
    await keep(bench.queue, finish(held.fence, done=[held.entries[0].id]))
    assert not await bench.session.write(lambda c: claim_alive(c, held.fence))
