"""What every way from outbox to queue must do: the conformance cases of the port `Transfer`.

A test file subclasses the class below and gives a fixture `transfers`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

import pytest

from tenfold.ports.records import EventRecord
from tenfold.ports.transfer import Follower, Transfer
from tenfold.testing.clock import HeldClock

__all__ = ["Queued", "TransferBench", "TransferCases", "published"]

Queued = tuple[str, str, int, str | None, int]
"""An entry in the queue: message id, handler, generation, lane, priority."""


class TransferBench(Protocol):
    """What a test file hands to the cases: an empty log, an empty queue, and a way between."""

    @property
    def transfer(self) -> Transfer:
        """The way, from a source named `orders`."""
        ...

    @property
    def clock(self) -> HeldClock:
        """The clock that both databases go by."""
        ...

    def another_transfer(self) -> Transfer:
        """A second one, as another process would have it."""
        ...

    async def publish(self, events: Sequence[EventRecord]) -> int:
        """Commit events, in their order; returns the position of the last, once it can be read."""
        ...

    async def follow(self, follower: Follower, position: int) -> None:
        """Store the place of a follower, as a relay does when it sees one for the first time."""
        ...

    async def positions(self) -> dict[tuple[str, int], int]:
        """The stored places, by handler and generation."""
        ...

    async def queued(self) -> list[Queued]:
        """The queue's entries, in the order of their ids."""
        ...


WORK = Follower(handler="work", generation=1, subscriber="work", events=("Placed",))
VIEW = Follower(
    handler="view.see", generation=3, subscriber="view", events=("Placed", "Paid"), priority=-5
)


def published(message_id: str, bench: TransferBench, **fields: Any) -> EventRecord:
    """An event `Placed` of the present moment."""
    fields = {"name": "Placed", "tenant": "main", "order_key": None, **fields}
    return EventRecord(
        message_id=message_id, at=bench.clock.now(), body=message_id.encode(), **fields
    )


@pytest.mark.anyio
class TransferCases:
    """From the log into the queue."""

    async def test_each_follower_gets_its_events_in_lanes_of_its_own(
        self, transfers: TransferBench
    ) -> None:
        await transfers.follow(WORK, 0)
        await transfers.follow(VIEW, 0)
        await transfers.publish(
            [
                published("a", transfers, order_key="k", tenant="t"),
                published("b", transfers, order_key="k", tenant="t", name="Paid"),
                published("c", transfers, name="Lost"),
                published("d", transfers),
            ]
        )
        carried = await transfers.transfer.carry([WORK, VIEW], 0, 100)
        assert (carried.read, carried.added) == (3, 5)
        assert await transfers.queued() == [
            ("a", "work", 1, "work:1:t:k", 0),
            ("a", "view.see", 3, "view:3:t:k", -5),
            ("b", "view.see", 3, "view:3:t:k", -5),
            ("d", "work", 1, None, 0),
            ("d", "view.see", 3, None, -5),
        ]

    async def test_positions_move_with_the_entries(self, transfers: TransferBench) -> None:
        await transfers.follow(WORK, 0)
        head = await transfers.publish([published("a", transfers)])
        carried = await transfers.transfer.carry([WORK], 0, 100)
        assert carried.position == head
        assert await transfers.positions() == {("work", 1): head}
        again = await transfers.transfer.carry([WORK], carried.position, 100)
        assert (again.read, again.added, again.position, again.lags_s) == (0, 0, head, {})

    async def test_what_nobody_follows_is_passed_by(self, transfers: TransferBench) -> None:
        await transfers.follow(WORK, 0)
        head = await transfers.publish([published("a", transfers, name="Lost")])
        carried = await transfers.transfer.carry([WORK], 0, 100)
        assert (carried.read, carried.added, carried.position) == (0, 0, head)
        assert await transfers.queued() == []

    async def test_batches_join_without_gap_or_repeat(self, transfers: TransferBench) -> None:
        await transfers.follow(WORK, 0)
        head = await transfers.publish([published(str(i), transfers) for i in range(25)])
        position, sizes = 0, []
        while position < head:
            carried = await transfers.transfer.carry([WORK], position, 10)
            position = carried.position
            sizes.append(carried.added)
        assert sizes == [10, 10, 5]
        assert [entry[0] for entry in await transfers.queued()] == [str(i) for i in range(25)]

    async def test_a_second_relay_adds_only_what_the_first_has_not(
        self, transfers: TransferBench
    ) -> None:
        await transfers.follow(WORK, 0)
        await transfers.publish([published(str(i), transfers) for i in range(5)])
        assert (await transfers.transfer.carry([WORK], 0, 3)).added == 3
        assert (await transfers.another_transfer().carry([WORK], 0, 100)).added == 2
        assert (await transfers.transfer.carry([WORK], 0, 2)).added == 0
        assert [entry[0] for entry in await transfers.queued()] == ["0", "1", "2", "3", "4"]

    async def test_relays_at_once_neither_lose_nor_duplicate(
        self, transfers: TransferBench
    ) -> None:
        await transfers.follow(WORK, 0)
        await transfers.follow(VIEW, 0)
        head = await transfers.publish([published(str(i), transfers) for i in range(300)])

        async def relay(transfer: Transfer, limit: int) -> None:
            position = 0
            while position < head:
                position = (await transfer.carry([WORK, VIEW], position, limit)).position

        ways = [transfers.transfer, transfers.another_transfer(), transfers.another_transfer()]
        await asyncio.gather(*map(relay, ways, (7, 11, 13)))
        for handler in ("work", "view.see"):
            carried = [entry[0] for entry in await transfers.queued() if entry[1] == handler]
            assert carried == [str(i) for i in range(300)]

    async def test_a_follower_that_is_ahead_gets_what_is_above_its_place(
        self, transfers: TransferBench
    ) -> None:
        await transfers.follow(WORK, 0)
        await transfers.follow(VIEW, await transfers.publish([published("a", transfers)]))
        await transfers.publish([published("b", transfers)])
        await transfers.transfer.carry([WORK, VIEW], 0, 100)
        assert [entry[:2] for entry in await transfers.queued()] == [
            ("a", "work"),
            ("b", "work"),
            ("b", "view.see"),
        ]

    async def test_the_ages_of_events_are_told_by_name(self, transfers: TransferBench) -> None:
        await transfers.follow(VIEW, 0)
        await transfers.publish([published("a", transfers), published("b", transfers, name="Paid")])
        transfers.clock.jump(timedelta(seconds=3).total_seconds())
        await transfers.publish([published("c", transfers)])
        carried = await transfers.transfer.carry([VIEW], 0, 100)
        assert carried.lags_s == {"Placed": [3.0, 0.0], "Paid": [3.0]}
