"""What every queue must do: the conformance cases of the ports `Queue` and `QueueDesk`.

An adapter's test file subclasses the classes below and those of
`delivery_suite`, and gives a fixture `bench`.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import pytest

from tenfold.ports.queue import Queue, QueueDesk
from tenfold.ports.records import (
    Claim,
    Cycle,
    Finish,
    InboxKey,
    QueueEntry,
    Turn,
)
from tenfold.testing.clock import HeldClock

__all__ = [
    "AnyQueue",
    "ClaimCases",
    "LaneCases",
    "LostClaimCases",
    "QueueBench",
    "claim",
    "entry",
    "finish",
    "ids",
    "keep",
    "names",
    "take",
]

LEASE_S = 30.0


class AnyQueue(Queue, QueueDesk, Protocol):
    """A queue with its desk."""


class QueueBench(Protocol):
    """What an adapter's tests hand to the cases: an empty queue, and the clock it goes by."""

    @property
    def queue(self) -> AnyQueue:
        """The queue, which is empty at first."""
        ...

    @property
    def clock(self) -> HeldClock:
        """The clock that it goes by."""
        ...

    def another(self) -> AnyQueue:
        """A second adapter over the same queue, as another process would have it."""
        ...

    async def remember(self, key: InboxKey) -> None:
        """Note in the inbox that a message had its effect."""
        ...

    async def forgotten(self, key: InboxKey) -> bool:
        """Whether the inbox has no such message."""
        ...


def entry(name: str, **fields: Any) -> QueueEntry:
    """An entry whose message id and body are `name`."""
    fields = {"handler": "work", "tenant": "main", "body": name.encode(), **fields}
    return QueueEntry(message_id=name, **fields)


def finish(fence: int, **fields: Any) -> Finish:
    """What became of entries of a claim."""
    nothing: dict[str, Any] = {
        "done": [],
        "retries": {},
        "dead": {},
        "holding": [],
        "returned": [],
    }
    return Finish(fence=fence, **{**nothing, **fields})


async def take(
    queue: Queue, want: int = 100, *finished: Finish, renew: tuple[int, ...] = ()
) -> Turn:
    """One turn."""
    return await queue.cycle(
        Cycle(finished=list(finished), renew=list(renew), want=want, lease_s=LEASE_S)
    )


async def claim(queue: Queue, want: int = 100, *finished: Finish) -> Claim:
    """One turn that must claim something."""
    turn = await take(queue, want, *finished)
    assert turn.claim is not None, "nothing was claimed"
    return turn.claim


async def keep(queue: Queue, *finished: Finish) -> Turn:
    """One turn that finishes and claims nothing."""
    return await take(queue, 0, *finished)


def names(claim: Claim | None) -> list[str]:
    """The message ids of a claim, in order."""
    return [] if claim is None else [e.message_id for e in claim.entries]


def ids(claim: Claim) -> dict[str, int]:
    """Entry ids by message id."""
    return {e.message_id: e.id for e in claim.entries}


@pytest.mark.anyio
class ClaimCases:
    """Claims, and how they end."""

    async def test_entries_come_in_the_order_they_were_added(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        await bench.queue.add([entry("c")])
        assert names(await claim(bench.queue)) == ["a", "b", "c"]

    async def test_a_claim_carries_the_whole_entry(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a", handler="h.m", generation=3, lane="l")])
        (got,) = (await claim(bench.queue)).entries
        assert (got.handler, got.generation, got.lane, got.body) == ("h.m", 3, "l", b"a")
        assert (got.attempt, got.alone) == (1, False)

    async def test_higher_priority_comes_first(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("low", priority=-1), entry("mid"), entry("high", priority=5)])
        assert names(await claim(bench.queue)) == ["high", "mid", "low"]

    async def test_no_more_is_claimed_than_wanted(self, bench: QueueBench) -> None:
        await bench.queue.add([entry(str(i)) for i in range(5)])
        assert names(await claim(bench.queue, 2)) == ["0", "1"]
        assert names(await claim(bench.queue, 2)) == ["2", "3"]

    async def test_an_empty_queue_gives_no_claim(self, bench: QueueBench) -> None:
        assert (await take(bench.queue)).claim is None
        assert await bench.queue.next_due() is None

    async def test_an_entry_is_not_claimed_before_its_time(self, bench: QueueBench) -> None:
        at = bench.clock.now() + timedelta(seconds=10)
        await bench.queue.add([entry("a", run_at=at)])
        assert (await take(bench.queue)).claim is None
        assert await bench.queue.next_due() == at
        bench.clock.jump(10)
        assert names(await claim(bench.queue)) == ["a"]

    async def test_two_workers_never_hold_the_same_entry(self, bench: QueueBench) -> None:
        await bench.queue.add([entry(str(i)) for i in range(6)])
        other = bench.another()
        first, second = await claim(bench.queue, 4), await claim(other, 4)
        assert names(first) + names(second) == list("012345")
        assert first.fence != second.fence

    async def test_what_is_done_is_gone(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a")])
        held = await claim(bench.queue)
        await keep(bench.queue, finish(held.fence, done=[held.entries[0].id]))
        bench.clock.jump(LEASE_S * 2)
        assert (await take(bench.queue)).claim is None
        assert await bench.queue.counts() == {}

    async def test_a_finish_and_a_claim_share_a_turn(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a", lane="l"), entry("b", lane="l")])
        held = await claim(bench.queue, 1)
        after = await claim(bench.queue, 1, finish(held.fence, done=[held.entries[0].id]))
        assert names(after) == ["b"]

    async def test_what_a_finish_does_not_name_stays_claimed(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        held = await claim(bench.queue)
        assert (await take(bench.queue, 9, finish(held.fence, done=[ids(held)["a"]]))).claim is None
        turn = await keep(bench.queue, finish(held.fence, done=[ids(held)["b"]]))
        assert turn.lost == []
        assert await bench.queue.counts() == {}

    async def test_a_retry_waits_for_its_time_and_counts_an_attempt(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a")])
        held = await claim(bench.queue)
        at = bench.clock.now() + timedelta(seconds=5)
        turn = await take(bench.queue, 9, finish(held.fence, retries={ids(held)["a"]: (at, "no")}))
        assert turn.claim is None
        assert await bench.queue.next_due() == at
        bench.clock.jump(5)
        (again,) = (await claim(bench.queue)).entries
        assert (again.attempt, again.alone) == (2, False)

    async def test_a_postponed_entry_waits_without_an_attempt(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a")])
        held = await claim(bench.queue)
        at = bench.clock.now() + timedelta(seconds=5)
        await keep(bench.queue, finish(held.fence, postponed={ids(held)["a"]: (at, "later")}))
        assert (await take(bench.queue)).claim is None
        bench.clock.jump(5)
        assert (await claim(bench.queue)).entries[0].attempt == 1

    async def test_a_returned_entry_waits_again_unchanged(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        held = await claim(bench.queue)
        await keep(bench.queue, finish(held.fence, returned=[ids(held)["a"]]))
        (again,) = (await claim(bench.queue)).entries
        assert (again.message_id, again.attempt, again.alone) == ("a", 1, False)

    async def test_next_due_is_now_while_something_can_be_claimed(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a")])
        due = await bench.queue.next_due()
        assert due is not None
        assert due <= bench.clock.now()

    async def test_next_due_is_the_end_of_a_lease_when_all_is_claimed(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a"), entry("b", lane="l"), entry("c", lane="l")])
        await claim(bench.queue, 2)
        assert await bench.queue.next_due() == bench.clock.now() + timedelta(seconds=LEASE_S)


@pytest.mark.anyio
class LaneCases:
    """Order per key: the second waits for the first, and keys do not block one another."""

    async def test_a_batch_takes_a_lanes_whole_run_in_order(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a1", lane="a"), entry("b1", lane="b"), entry("a2", lane="a")])
        got = names(await claim(bench.queue))
        assert sorted(got) == ["a1", "a2", "b1"]
        assert got.index("a1") < got.index("a2")

    async def test_a_lane_in_flight_is_not_claimed_by_another(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a1", lane="a"), entry("a2", lane="a"), entry("b1", lane="b")])
        await claim(bench.queue, 1)
        assert names(await claim(bench.another())) == ["b1"]

    async def test_an_entry_added_behind_a_running_one_waits_for_it(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a1", lane="a")])
        held = await claim(bench.queue)
        await bench.queue.add([entry("a2", lane="a")])
        assert (await take(bench.queue)).claim is None
        after = await claim(bench.queue, 9, finish(held.fence, done=[ids(held)["a1"]]))
        assert names(after) == ["a2"]

    async def test_an_older_entry_that_is_not_due_blocks_its_lane_only(
        self, bench: QueueBench
    ) -> None:
        at = bench.clock.now() + timedelta(seconds=10)
        await bench.queue.add(
            [entry("a1", lane="a", run_at=at), entry("a2", lane="a"), entry("b1", lane="b")]
        )
        assert names(await claim(bench.queue)) == ["b1"]
        bench.clock.jump(10)
        assert names(await claim(bench.queue)) == ["a1", "a2"]

    async def test_a_run_ends_before_an_entry_that_is_not_due(self, bench: QueueBench) -> None:
        at = bench.clock.now() + timedelta(seconds=10)
        await bench.queue.add(
            [entry("1", lane="a"), entry("2", lane="a", run_at=at), entry("3", lane="a")]
        )
        held = await claim(bench.queue)
        assert names(held) == ["1"]
        assert (await take(bench.queue, 9, finish(held.fence, done=[ids(held)["1"]]))).claim is None
        bench.clock.jump(10)
        assert names(await claim(bench.queue)) == ["2", "3"]

    async def test_a_retry_keeps_those_behind_it_waiting(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("1", lane="a"), entry("2", lane="a"), entry("x")])
        held = await claim(bench.queue, 2)
        at = bench.clock.now() + timedelta(seconds=5)
        one, two = ids(held)["1"], ids(held)["2"]
        after = finish(held.fence, retries={one: (at, "no")}, returned=[two])
        assert names(await claim(bench.queue, 9, after)) == ["x"]
        bench.clock.jump(5)
        assert names(await claim(bench.queue)) == ["1", "2"]

    async def test_a_higher_priority_does_not_overtake_in_its_lane(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("1", lane="a"), entry("2", lane="a", priority=9), entry("x")])
        got = names(await claim(bench.queue, 1))
        assert got == ["1"]
        assert "2" not in names(await claim(bench.queue))

    async def test_a_long_lane_is_worked_to_its_end_in_bites(self, bench: QueueBench) -> None:
        await bench.queue.add([entry(f"{i:02}", lane="a") for i in range(20)])
        await bench.queue.add([entry("x", lane="b")])
        seen: list[str] = []
        ended: list[Finish] = []
        while (turn := await take(bench.queue, 3, *ended)).claim is not None:
            held = turn.claim
            seen += names(held)
            await take(bench.queue, 3)  # passes the busy lane by
            ended = [finish(held.fence, done=list(ids(held).values()))]
        assert [n for n in seen if n != "x"] == [f"{i:02}" for i in range(20)]

    async def test_a_dead_letter_releases_its_lane(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("1", lane="a"), entry("2", lane="a")])
        held = await claim(bench.queue, 1)
        await take(bench.queue, 9)
        after = await claim(bench.queue, 9, finish(held.fence, dead={ids(held)["1"]: "no"}))
        assert names(after) == ["2"]

    async def test_a_dead_letter_that_holds_keeps_its_lane_closed(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("1", lane="a"), entry("2", lane="a"), entry("x", lane="b")])
        held = await claim(bench.queue, 1)
        one = ids(held)["1"]
        after = await claim(bench.queue, 9, finish(held.fence, dead={one: "no"}, holding=[one]))
        assert names(after) == ["x"]
        due = await bench.queue.next_due()
        assert due is not None
        assert due > bench.clock.now()

    async def test_a_lane_goes_on_when_its_dead_letter_is_replayed(self, bench: QueueBench) -> None:
        await self.test_a_dead_letter_that_holds_keeps_its_lane_closed(bench)
        (letter,) = await bench.queue.entries(state="dead", handler=None, after=0, limit=9)
        assert await bench.queue.retry([letter.id]) == 1
        assert names(await claim(bench.queue)) == ["1", "2"]

    async def test_a_lane_goes_on_when_its_dead_letter_is_discarded(
        self, bench: QueueBench
    ) -> None:
        await self.test_a_dead_letter_that_holds_keeps_its_lane_closed(bench)
        (letter,) = await bench.queue.entries(state="dead", handler=None, after=0, limit=9)
        assert await bench.queue.discard([letter.id]) == 1
        assert names(await claim(bench.queue)) == ["2"]

    async def test_a_lane_goes_on_when_its_waiting_head_is_discarded(
        self, bench: QueueBench
    ) -> None:
        at = bench.clock.now() + timedelta(hours=1)
        await bench.queue.add([entry("1", lane="a", run_at=at), entry("2", lane="a")])
        assert (await take(bench.queue)).claim is None
        (head, _) = await bench.queue.entries(state=None, handler=None, after=0, limit=9)
        await bench.queue.discard([head.id])
        assert names(await claim(bench.queue)) == ["2"]


@pytest.mark.anyio
class LostClaimCases:
    """Leases, fences, and what follows a process that died or stood still."""

    async def test_an_expired_claim_counts_an_attempt_and_runs_alone(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        await claim(bench.queue)
        bench.clock.jump(LEASE_S)
        first = await claim(bench.queue)
        assert names(first) == ["a"]
        assert (first.entries[0].attempt, first.entries[0].alone) == (2, True)

    async def test_one_that_runs_alone_is_never_beside_another_such(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        await claim(bench.queue)
        bench.clock.jump(LEASE_S)
        await bench.queue.add([entry("c")])
        first = await claim(bench.queue)
        assert names(first) == ["a"]
        assert names(await claim(bench.another())) == ["c"]
        after = await claim(bench.queue, 9, finish(first.fence, done=[ids(first)["a"]]))
        assert names(after) == ["b"]

    async def test_one_lost_in_a_batch_is_no_suspect_and_one_lost_alone_is(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        suspects: list[tuple[str, int, bool]] = []
        for _ in range(4):
            held = await claim(bench.queue)
            suspects += [(e.message_id, e.attempt, e.suspect) for e in held.entries]
            bench.clock.jump(LEASE_S)
        assert suspects == [
            ("a", 1, False),
            ("b", 1, False),
            ("a", 2, False),
            ("a", 3, True),
            ("a", 4, True),
        ]

    async def test_a_lane_keeps_its_order_after_a_lost_claim(self, bench: QueueBench) -> None:
        await bench.queue.add([entry(n, lane="a") for n in "123"])
        await claim(bench.queue, 2)
        bench.clock.jump(LEASE_S)
        seen: list[str] = []
        ended: list[Finish] = []
        while (turn := await take(bench.queue, 9, *ended)).claim is not None:
            seen += names(turn.claim)
            ended = [finish(turn.claim.fence, done=list(ids(turn.claim).values()))]
        assert seen == ["1", "2", "3"]

    async def test_a_renewed_claim_does_not_expire(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a")])
        held = await claim(bench.queue)
        for _ in range(4):
            bench.clock.jump(LEASE_S - 1)
            turn = await take(bench.queue, 9, renew=(held.fence,))
            assert (turn.claim, turn.lost) == (None, [])

    async def test_a_partial_finish_renews_the_rest(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        held = await claim(bench.queue)
        bench.clock.jump(LEASE_S - 1)
        await keep(bench.queue, finish(held.fence, done=[ids(held)["a"]]))
        bench.clock.jump(LEASE_S - 1)
        assert (await take(bench.another())).claim is None

    async def test_a_finish_after_the_loss_changes_nothing_and_is_told(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a")])
        paused = await claim(bench.queue)
        bench.clock.jump(LEASE_S)
        other = bench.another()
        held = await claim(other)
        turn = await keep(bench.queue, finish(paused.fence, done=[paused.entries[0].id]))
        assert turn.lost == [paused.fence]
        assert await bench.queue.counts() == {"work": {"running": 1}}
        assert (await keep(other, finish(held.fence, done=[held.entries[0].id]))).lost == []

    async def test_a_renewal_after_the_loss_is_told(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a")])
        paused = await claim(bench.queue)
        bench.clock.jump(LEASE_S)
        await claim(bench.another())
        assert (await take(bench.queue, 0, renew=(paused.fence,))).lost == [paused.fence]

    async def test_a_finish_names_only_entries_of_its_own_claim(self, bench: QueueBench) -> None:
        await bench.queue.add([entry("a"), entry("b")])
        mine, theirs = await claim(bench.queue, 1), await claim(bench.another(), 1)
        await keep(bench.queue, finish(mine.fence, done=[ids(mine)["a"], ids(theirs)["b"]]))
        assert await bench.queue.counts() == {"work": {"running": 1}}

    async def test_a_fence_is_never_given_twice(self, bench: QueueBench) -> None:
        seen = set()
        for i in range(3):
            await bench.queue.add([entry(str(i))])
            held = await claim(bench.queue)
            seen.add(held.fence)
            await keep(bench.queue, finish(held.fence, done=[held.entries[0].id]))
        assert len(seen) == 3

    async def test_a_process_that_is_the_only_one_releases_all_claims(
        self, bench: QueueBench
    ) -> None:
        await bench.queue.add([entry("a", lane="l"), entry("b", lane="l")])
        before = await claim(bench.queue)
        assert await bench.queue.release_claims() == 1
        again = await claim(bench.queue)
        assert (names(again), again.entries[0].attempt) == (["a"], 2)
        turn = await keep(bench.queue, finish(before.fence, done=[ids(before)["b"]]))
        assert turn.lost == [before.fence]
