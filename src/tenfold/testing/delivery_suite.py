"""What every queue must do with unique keys and deliveries, and show to people.

The second half of the conformance cases of the ports `Queue` and `QueueDesk`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tenfold.ports.queue import Queue
from tenfold.ports.records import Delivery, InboxKey, QueueEntry, SubscriptionKey
from tenfold.testing.queue_suite import QueueBench, claim, entry, finish, ids, keep, names

__all__ = ["DeliveryCases", "DeskCases", "UniqueCases"]


@pytest.mark.anyio
class UniqueCases:
    """Unique jobs: one live entry for each handler, tenant and key."""

    async def test_a_second_one_is_not_added_while_the_first_waits(self, bench: QueueBench) -> None:
        assert await bench.queue.add([entry("a", unique_key="k"), entry("b", unique_key="k")]) == 1
        assert await bench.queue.add([entry("c", unique_key="k")]) == 0

    async def test_nor_while_the_first_runs(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a", unique_key="k")])
        held = await claim(bench.queue)
        assert await bench.queue.add([entry("b", unique_key="k")]) == 0
        await keep(bench.queue, finish(held.fence, done=[held.entries[0].id]))
        assert await bench.queue.add([entry("c", unique_key="k")]) == 1

    async def test_keys_are_apart_by_handler_and_tenant(self, bench: QueueBench) -> None:
        added = await bench.queue.add(
            [
                entry("a", unique_key="k"),
                entry("b", unique_key="k", tenant="t2"),
                entry("c", unique_key="k", handler="h2"),
            ]
        )
        assert added == 3

    async def test_a_dead_letter_does_not_take_the_key(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a", unique_key="k")])
        held = await claim(bench.queue)
        dead = ids(held)["a"]
        await keep(bench.queue, finish(held.fence, dead={dead: "no"}))
        assert await bench.queue.add([entry("b", unique_key="k")]) == 1
        assert await bench.queue.retry([dead]) == 0  # the key is taken: it stays dead


@pytest.mark.anyio
class DeliveryCases:
    """Delivery from an outbox: entries and positions move together."""

    KEY = SubscriptionKey(handler="work", generation=1, source="orders")

    def event(self, seq: int, **fields: Any) -> QueueEntry:
        return entry(f"e{seq}", source="orders", source_seq=seq, **fields)

    async def deliver(self, queue: Queue, seqs: list[int], position: int) -> int:
        entries = [self.event(seq) for seq in seqs]
        return await queue.deliver(Delivery(entries=entries, positions={self.KEY: position}))

    async def test_entries_and_position_are_stored(self, bench: QueueBench) -> None:
        assert await self.deliver(bench.queue, [1, 2], 5) == 2
        assert await bench.queue.positions() == {self.KEY: 5}
        assert names(await claim(bench.queue)) == ["e1", "e2"]

    async def test_two_relays_do_not_deliver_an_event_twice(self, bench: QueueBench) -> None:
        assert await self.deliver(bench.queue, [1, 2, 3], 3) == 3
        assert await self.deliver(bench.another(), [2, 3, 4], 4) == 1
        assert names(await claim(bench.queue)) == ["e1", "e2", "e3", "e4"]

    async def test_a_position_never_goes_backwards(self, bench: QueueBench) -> None:
        await self.deliver(bench.queue, [], 9)
        assert await self.deliver(bench.another(), [4], 4) == 0
        assert await bench.queue.positions() == {self.KEY: 9}

    async def test_generations_have_positions_of_their_own(self, bench: QueueBench) -> None:
        await self.deliver(bench.queue, [1], 1)
        shadow = SubscriptionKey(handler="work", generation=2, source="orders")
        entries = [self.event(1, generation=2)]
        assert await bench.queue.deliver(Delivery(entries=entries, positions={shadow: 1})) == 1
        assert await bench.queue.positions() == {self.KEY: 1, shadow: 1}

    async def test_pending_until_the_last_entry_is_finished(self, bench: QueueBench) -> None:
        await self.deliver(bench.queue, [3, 7], 9)
        assert not await bench.queue.pending("work", 1, 2)
        assert not await bench.queue.pending("work", 2, 9)
        held = await claim(bench.queue)
        assert await bench.queue.pending("work", 1, 3)
        await keep(bench.queue, finish(held.fence, done=[ids(held)["e3"]]))
        assert not await bench.queue.pending("work", 1, 6)
        assert await bench.queue.pending("work", 1, 7)

    async def test_a_dead_letter_is_pending_if_it_holds_its_lane(self, bench: QueueBench) -> None:
        entries = [self.event(1, lane="a"), self.event(2, lane="b")]
        await bench.queue.deliver(Delivery(entries=entries, positions={self.KEY: 2}))
        held = await claim(bench.queue)
        one, two = ids(held)["e1"], ids(held)["e2"]
        ended = finish(held.fence, dead={one: "no", two: "no"}, holding=[two])
        await keep(bench.queue, ended)
        assert not await bench.queue.pending("work", 1, 1)
        assert await bench.queue.pending("work", 1, 2)

    async def test_trimming_keeps_the_inbox_of_what_is_queued(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("queued")])
        queued, gone = (
            InboxKey(message_id=name, handler="work", generation=1) for name in ("queued", "gone")
        )
        await bench.remember(queued)
        await bench.remember(gone)
        young = InboxKey(message_id="young", handler="work", generation=1)
        before = bench.clock.jump(10)
        await bench.remember(young)
        assert await bench.queue.trim(before) == 1
        assert await bench.forgotten(gone)
        assert not await bench.forgotten(queued)
        assert not await bench.forgotten(young)


@pytest.mark.anyio
class DeskCases:
    """What people see and do."""

    async def fill(self, bench: QueueBench) -> dict[str, int]:
        await bench.queue.add([entry("dead"), entry("runs", handler="other"), entry("waits")])
        held = await claim(bench.queue, 2)
        await keep(bench.queue, finish(held.fence, dead={ids(held)["dead"]: "it broke"}))
        found = await bench.queue.entries(state=None, handler=None, after=0, limit=9)
        return {e.message_id: e.id for e in found}

    async def test_counts_are_by_handler_and_state(self, bench: QueueBench) -> None:
        await self.fill(bench)
        assert await bench.queue.counts() == {
            "work": {"dead": 1, "waiting": 1},
            "other": {"running": 1},
        }

    async def test_entries_are_listed_by_state_and_handler_in_pages(
        self, bench: QueueBench
    ) -> None:
        by_name = await self.fill(bench)
        for state, name in (("dead", "dead"), ("running", "runs"), ("waiting", "waits")):
            found = await bench.queue.entries(state=state, handler=None, after=0, limit=9)
            assert [e.message_id for e in found] == [name]
        found = await bench.queue.entries(state=None, handler="work", after=0, limit=1)
        assert [e.message_id for e in found] == ["dead"]
        page = await bench.queue.entries(state=None, handler=None, after=by_name["dead"], limit=9)
        assert [e.message_id for e in page] == ["runs", "waits"]

    async def test_the_backlog_is_counted_by_what_it_waits_for(self, bench: QueueBench) -> None:
        empty = await bench.queue.backlog()
        assert (empty.due, empty.later, empty.dead, empty.oldest_due_at) == (0, 0, 0, None)
        await self.fill(bench)
        since = bench.clock.now()
        bench.clock.jump(5)
        moment = bench.clock.now() + timedelta(seconds=60)
        await bench.queue.add([entry("urgent", priority=9), entry("later", run_at=moment)])
        found = await bench.queue.backlog()
        assert (found.due, found.later, found.dead) == (3, 1, 1)
        assert found.oldest_due_at == since

    async def test_one_entry_shows_its_error(self, bench: QueueBench) -> None:
        by_name = await self.fill(bench)
        view = await bench.queue.entry(by_name["dead"])
        assert view is not None
        assert (view.state, view.attempts, view.last_error) == ("dead", 1, "it broke")
        assert (view.body, view.run_at) == (b"dead", bench.clock.now())
        assert await bench.queue.entry(999_999) is None

    async def test_a_retried_dead_letter_starts_over(self, bench: QueueBench) -> None:
        by_name = await self.fill(bench)
        assert await bench.queue.retry(list(by_name.values())) == 1
        assert (await claim(bench.queue)).entries[0].attempt == 1

    async def test_what_runs_is_not_discarded(self, bench: QueueBench) -> None:
        by_name = await self.fill(bench)
        assert await bench.queue.discard(list(by_name.values())) == 2
        assert await bench.queue.counts() == {"other": {"running": 1}}
