"""What every store must do for subscriptions that take batches.

Like `unit_suite`, whose bench and product these cases use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tenfold.path.batches import Batches
from tenfold.ports.transfer import Follower
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.probe.modules import AuditModule
from tenfold.testing.unit_suite import ProbeBench

__all__ = ["BatchCases"]

_FOLLOWER = Follower(
    handler="metered", generation=1, subscriber="metered", events=("ledger.Metered",)
)


async def _until(bench: ProbeBench, holds: Callable[[], Awaitable[bool]]) -> None:
    """Let the product work until something holds: a batch that failed rests for a moment."""
    async with asyncio.timeout(20):
        while True:
            await bench.settle()
            if await holds():
                return
            await asyncio.sleep(0.005)


async def _noted(bench: ProbeBench, account: str, *notes: str) -> None:
    """Wait until there are so many notes; they must be these."""

    async def there() -> bool:
        return len(await bench.audit.notes(account)) >= len(notes)

    await _until(bench, there)
    assert await bench.audit.notes(account) == list(notes)


def _another(bench: ProbeBench) -> Batches:
    """What another process would handle the subscription with."""
    audit, ledger = bench.host.modules["audit"], bench.host.modules["ledger"]
    return Batches(audit, audit.handlers["metered"], "ledger", ledger.outbox)


@pytest.mark.anyio
class BatchCases:
    """Rule 10: a subscription for volume takes batches, and its place moves with its effect."""

    async def test_events_come_in_lists_in_the_order_of_the_log(self, bench: ProbeBench) -> None:
        await bench.ledger.meter("a", list(range(20, 32)))
        await _noted(bench, "a", "20,21,22,23,24", "25,26,27,28,29", "30,31")

    async def test_nothing_of_them_comes_into_the_queue(self, bench: ProbeBench) -> None:
        await bench.ledger.meter("a", [1, 2])
        await _noted(bench, "a", "1,2")
        queue = bench.host.modules["audit"].queue
        assert "metered" not in await queue.counts()

    async def test_a_batch_is_of_one_tenant(self, bench: ProbeBench) -> None:
        other = bench.host.proxy(Ledger, tenant="other")
        await bench.ledger.meter("a", [1, 2])
        await other.meter("a", [3])
        await bench.ledger.meter("a", [4])

        async def there() -> bool:
            return bool((await bench.audit.notes("a"))[1:])

        await _until(bench, there)
        notes = ",".join(await bench.audit.notes("a"))
        assert notes == "1,2,4"
        assert await bench.host.proxy(Audit, tenant="other").notes("a") == ["3"]

    async def test_of_two_processes_at_a_batch_one_has_the_effect(self, bench: ProbeBench) -> None:
        await bench.ledger.meter("a", [1, 2])
        await _noted(bench, "a", "1,2")
        late = await _another(bench).carry([_FOLLOWER], 0, 5)
        assert await bench.audit.notes("a") == ["1,2"]
        assert late.position == await bench.host.modules["ledger"].outbox.head()

    async def test_who_is_far_behind_leaves_every_tenants_batches_to_who_had_them(
        self, bench: ProbeBench, caplog: pytest.LogCaptureFixture
    ) -> None:
        other = bench.host.proxy(Ledger, tenant="other")
        await bench.ledger.meter("a", [1, 2])
        await other.meter("a", [3])
        await bench.ledger.meter("a", [4])

        async def there() -> bool:
            return ",".join(await bench.audit.notes("a")) == "1,2,4"

        await _until(bench, there)
        late = await _another(bench).carry([_FOLLOWER], 0, 9)
        assert late.position == await bench.host.modules["ledger"].outbox.head()
        assert ",".join(await bench.audit.notes("a")) == "1,2,4"
        assert await bench.host.proxy(Audit, tenant="other").notes("a") == ["3"]
        places = await bench.host.modules["audit"].queue.positions()
        assert {p for key, p in places.items() if key.handler == "metered"} == {late.position}
        assert "failed" not in caplog.text

    async def test_of_two_at_once_each_batch_is_handled_by_one(self, bench: ProbeBench) -> None:
        others = [_another(bench) for _ in range(2)]
        await bench.ledger.meter("a", list(range(20, 35)))
        places = [0, 0]
        for _ in range(6):
            carried = await asyncio.gather(
                *(
                    other.carry([_FOLLOWER], place, 5)
                    for other, place in zip(others, places, strict=True)
                )
            )
            places = [each.position for each in carried]
        await bench.settle()
        noted = ",".join(await bench.audit.notes("a"))
        assert noted == ",".join(str(n) for n in range(20, 35))

    async def test_one_that_fails_leaves_nothing_and_is_tried_whole_again(
        self, bench: ProbeBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(AuditModule, "trouble", 1)
        await bench.ledger.meter("a", [1, 14, 2])
        await _noted(bench, "a", "1,14,2")

    async def test_one_that_goes_on_failing_is_taken_apart(
        self, bench: ProbeBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(AuditModule, "trouble", 3)
        await bench.ledger.meter("a", [1, 14, 2])
        await bench.ledger.meter("a", [3, 4])

        # Those that came later may be of the batch that was taken apart, or of the next one.
        async def there() -> bool:
            return ",".join(await bench.audit.notes("a")).endswith("3,4")

        await _until(bench, there)
        assert (await bench.audit.notes("a"))[:3] == ["1", "14", "2"]

    async def test_an_event_that_fails_by_itself_ends_as_a_dead_letter(
        self, bench: ProbeBench
    ) -> None:
        await bench.ledger.meter("a", [1, 13, 2])
        await _noted(bench, "a", "1", "2")
        queue = bench.host.modules["audit"].queue

        async def dead() -> bool:
            return (await queue.counts()).get("metered", {}) == {"dead": 1}

        await _until(bench, dead)
        await bench.ledger.meter("a", [5, 6])
        await _noted(bench, "a", "1", "2", "5,6")

    async def test_a_command_is_called_from_none_of_them_however_it_comes(
        self, bench: ProbeBench
    ) -> None:
        await bench.ledger.meter("a", [15])
        queue = bench.host.modules["ledger"].queue

        async def dead() -> bool:
            return (await queue.counts()).get("passed_on", {}) == {"dead": 1}

        await _until(bench, dead)
        (letter,) = await queue.entries(state="dead", handler="passed_on", after=0, limit=9)
        assert letter.last_error is not None
        assert "handles events in batches and called the command audit.note" in letter.last_error
        await _noted(bench, "a", "15")

    async def test_a_dead_letter_that_is_retried_comes_as_a_list_of_one(
        self, bench: ProbeBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Twice in the batch, twice alone, twice from the queue: then it is dead.
        monkeypatch.setattr(AuditModule, "trouble", 6)
        await bench.ledger.meter("a", [14, 2])
        queue = bench.host.modules["audit"].queue

        async def dead() -> bool:
            return (await queue.counts()).get("metered", {}) == {"dead": 1}

        await _until(bench, dead)
        (letter,) = await queue.entries(state="dead", handler="metered", after=0, limit=9)
        assert await queue.retry([letter.id]) == 1
        bench.host.worker("audit").wake()
        await _noted(bench, "a", "2", "14")
