"""What every outbox must do: the conformance cases of the ports `Outbox` and `Replies`.

An adapter's test file subclasses the classes below and gives a fixture `bench`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import pytest

from tenfold.ports.outbox import Outbox, Replies
from tenfold.ports.records import EventRecord, ReplyKey
from tenfold.testing.clock import HeldClock

__all__ = ["OutboxBench", "OutboxCases", "ReplyCases", "event"]


class AnyOutbox(Outbox, Replies, Protocol):
    """An outbox with the stored replies beside it."""


class OutboxBench(Protocol):
    """What an adapter's tests hand to the cases: an empty log, and what writes it."""

    @property
    def outbox(self) -> AnyOutbox:
        """The log, which is empty at first."""
        ...

    @property
    def clock(self) -> HeldClock:
        """The clock that it goes by."""
        ...

    def another_outbox(self) -> AnyOutbox:
        """A second adapter over the same log, as another process would have it."""
        ...

    async def publish(self, events: Sequence[EventRecord]) -> None:
        """Commit events, in their order, as a unit of work does."""
        ...

    async def store_reply(self, key: ReplyKey, body: bytes, position: int) -> None:
        """Commit the reply of a keyed command, as a unit of work does."""
        ...


def event(message_id: str, bench: OutboxBench, **fields: Any) -> EventRecord:
    """An event `Placed` of the present moment, whose body is its id."""
    fields = {"name": "Placed", "tenant": "main", "order_key": None, **fields}
    return EventRecord(
        message_id=message_id, at=bench.clock.now(), body=message_id.encode(), **fields
    )


@pytest.mark.anyio
class OutboxCases:
    """The log of published events."""

    async def test_a_new_log_is_empty(self, bench: OutboxBench) -> None:
        assert await bench.outbox.head() == 0
        page = await bench.outbox.read(0, ["Placed"], 10)
        assert (page.rows, page.position) == ([], 0)

    async def test_events_are_read_in_commit_order_and_whole(self, bench: OutboxBench) -> None:
        await bench.publish([event("a", bench, order_key="k", tenant="t"), event("b", bench)])
        await bench.publish([event("c", bench)])
        page = await bench.outbox.read(0, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["a", "b", "c"]
        first = page.rows[0]
        assert (first.name, first.tenant, first.order_key, first.body) == ("Placed", "t", "k", b"a")
        assert first.at == bench.clock.now()
        assert page.position == await bench.outbox.head() == page.rows[-1].seq

    async def test_only_the_events_asked_for_are_read(self, bench: OutboxBench) -> None:
        await bench.publish([event("a", bench), event("b", bench, name="Paid"), event("c", bench)])
        page = await bench.outbox.read(0, ["Paid"], 10)
        assert [row.message_id for row in page.rows] == ["b"]
        assert page.position == await bench.outbox.head()
        both = await bench.outbox.read(0, ["Paid", "Placed"], 10)
        assert [row.message_id for row in both.rows] == ["a", "b", "c"]

    async def test_all_are_read_where_no_names_are_given(self, bench: OutboxBench) -> None:
        await bench.publish([event(n, bench, name=n.upper()) for n in "abc"])
        first = await bench.outbox.read(0, None, 2)
        assert [row.name for row in first.rows] == ["A", "B"]
        rest = await bench.outbox.read(first.position, None, 2)
        assert [row.name for row in rest.rows] == ["C"]
        assert rest.position == await bench.outbox.head()

    async def test_pages_join_without_gap_or_repeat(self, bench: OutboxBench) -> None:
        await bench.publish(
            [event(str(i), bench, name="Paid" if i % 3 else "Placed") for i in range(20)]
        )
        seen: list[str] = []
        position = 0
        while (page := await bench.outbox.read(position, ["Placed"], 2)).rows:
            seen += [row.message_id for row in page.rows]
            position = page.position
        assert seen == [str(i) for i in range(0, 20, 3)]

    async def test_a_reader_at_the_head_sees_what_is_committed_next(
        self, bench: OutboxBench
    ) -> None:
        await bench.publish([event("a", bench)])
        position = (await bench.outbox.read(0, ["Placed"], 10)).position
        await bench.publish([event("b", bench)])
        page = await bench.another_outbox().read(position, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["b"]

    async def test_the_epoch_stays_with_the_log(self, bench: OutboxBench) -> None:
        epoch = await bench.outbox.epoch()
        assert epoch
        assert await bench.another_outbox().epoch() == epoch

    async def test_whether_an_event_was_published_is_told_by_key_name_and_tenant(
        self, bench: OutboxBench
    ) -> None:
        await bench.publish([event("a", bench, order_key="k")])
        assert await bench.outbox.has(["Paid", "Placed"], "k", "main")
        assert not await bench.outbox.has(["Paid"], "k", "main")
        assert not await bench.outbox.has(["Placed"], "other", "main")
        assert not await bench.outbox.has(["Placed"], "k", "other")

    async def test_events_between_two_positions_are_counted_by_name(
        self, bench: OutboxBench
    ) -> None:
        await bench.publish([event(str(i), bench) for i in range(3)])
        await bench.publish([event("other", bench, name="Paid")])
        rows = (await bench.outbox.read(0, ["Placed"], 10)).rows
        head = await bench.outbox.head()
        count = bench.another_outbox().count
        assert await count(["Placed"], 0, head, 10) == 3
        assert await count(["Placed", "Paid"], 0, head, 10) == 4
        assert await count(["Placed"], rows[0].seq, rows[1].seq, 10) == 1
        assert await count(["Placed"], rows[2].seq, head, 10) == 0
        assert await count(["Placed"], 0, head, 2) == 2

    async def test_trimming_spares_the_young(self, bench: OutboxBench) -> None:
        await bench.publish([event("old", bench)])
        before = bench.clock.jump(60)
        await bench.publish([event("young", bench)])
        assert await bench.outbox.trim(before, await bench.outbox.head()) == 1
        page = await bench.outbox.read(0, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["young"]

    async def test_trimming_spares_what_a_subscriber_has_not_read(self, bench: OutboxBench) -> None:
        await bench.publish([event("a", bench), event("b", bench)])
        read = (await bench.outbox.read(0, ["Placed"], 1)).position
        assert await bench.outbox.trim(bench.clock.jump(60), read) == 1
        page = await bench.outbox.read(read, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["b"]

    async def test_positions_are_not_used_again_after_trimming(self, bench: OutboxBench) -> None:
        await bench.publish([event("a", bench)])
        head = await bench.outbox.head()
        await bench.outbox.trim(bench.clock.jump(60), head)
        assert await bench.another_outbox().head() == head
        await bench.publish([event("b", bench)])
        page = await bench.outbox.read(head, ["Placed"], 10)
        assert [row.message_id for row in page.rows] == ["b"]

    async def test_the_floor_is_the_newest_forgotten_event(self, bench: OutboxBench) -> None:
        assert await bench.outbox.floor() == 0
        await bench.publish([event("a", bench), event("b", bench), event("c", bench)])
        second = (await bench.outbox.read(0, ["Placed"], 2)).position
        before = bench.clock.jump(60)
        assert await bench.outbox.trim(before, 0) == 0
        assert await bench.outbox.floor() == 0
        await bench.outbox.trim(before, second)
        assert await bench.another_outbox().floor() == second
        await bench.outbox.trim(before, second)
        assert await bench.outbox.floor() == second


@pytest.mark.anyio
class ReplyCases:
    """What keyed commands answered."""

    def key(self, bench: OutboxBench, **fields: Any) -> ReplyKey:
        at = bench.clock.now() + timedelta(hours=1)
        fields = {"scope": "s", "key": "k", "fingerprint": b"f", "expires_at": at, **fields}
        return ReplyKey(**fields)

    async def test_a_reply_is_found_whatever_the_fingerprint(self, bench: OutboxBench) -> None:
        await bench.store_reply(self.key(bench), b"reply", 7)
        found = await bench.outbox.find(self.key(bench, fingerprint=b"other"))
        assert found is not None
        assert (found.fingerprint, found.body, found.position) == (b"f", b"reply", 7)

    async def test_a_key_belongs_to_its_scope(self, bench: OutboxBench) -> None:
        await bench.store_reply(self.key(bench), b"reply", 7)
        assert await bench.outbox.find(self.key(bench, scope="another's")) is None

    async def test_a_second_reply_under_a_live_key_is_refused(self, bench: OutboxBench) -> None:
        await bench.store_reply(self.key(bench), b"first", 7)
        with pytest.raises(Exception):  # noqa: B017, PT011  the store's own error
            await bench.store_reply(self.key(bench), b"second", 8)
        found = await bench.outbox.find(self.key(bench))
        assert found is not None
        assert found.body == b"first"

    async def test_an_expired_key_is_forgotten_and_may_be_used_again(
        self, bench: OutboxBench
    ) -> None:
        await bench.store_reply(self.key(bench), b"first", 7)
        bench.clock.jump(3600)
        assert await bench.outbox.find(self.key(bench)) is None
        await bench.store_reply(self.key(bench), b"second", 8)
        found = await bench.outbox.find(self.key(bench))
        assert found is not None
        assert found.body == b"second"
