"""What every store must do for calls between modules and for background work.

Like `unit_suite`, whose bench and product these cases use.
"""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from tenfold import Principal, keyed
from tenfold.contracts.errors import (
    CommandFromCommandError,
    DeadlineExceededError,
    InvalidArgumentsError,
    LeaseLostError,
    NotPermittedError,
    Outcome,
)
from tenfold.path.entry import Incoming
from tenfold.path.module import StoredEnvelope
from tenfold.ports.records import Claim, Cycle
from tenfold.testing.probe.ledger_contract import Ledger
from tenfold.testing.unit_suite import AUDITOR, STRANGER, ProbeBench, fails

__all__ = ["BackgroundCases", "CallCases"]


@pytest.mark.anyio
class CallCases:
    """Rule 6: commands call queries, jobs call commands; and who may call what."""

    async def test_a_command_may_not_call_a_command(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.settle_without_key("a"))
        assert isinstance(error, CommandFromCommandError)
        assert await bench.audit.notes("a") == []

    async def test_a_query_may_not_call_a_command(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.deposit_from_query("a"))
        assert isinstance(error, CommandFromCommandError)

    async def test_a_command_that_requires_a_key_may_and_does_it_once(
        self, bench: ProbeBench
    ) -> None:
        ledger = keyed(bench.ledger, "k-1")
        assert await ledger.settle("a") == await ledger.settle("a")
        assert await bench.audit.notes("a") == ["settled"]

    async def test_a_command_that_requires_a_key_is_refused_without(
        self, bench: ProbeBench
    ) -> None:
        error = await fails(bench.ledger.settle("a"))
        assert isinstance(error, InvalidArgumentsError)
        assert error.field == "Idempotency-Key"

    async def test_a_job_that_runs_again_calls_a_command_once(self, bench: ProbeBench) -> None:
        await bench.ledger.start_job("a", "fail")
        await bench.settle()
        # Three attempts, each of which called the command and then failed.
        assert await bench.audit.notes("a") == ["fail"]
        assert await bench.ledger.balance("a") == 0

    async def test_a_job_that_leaves_a_call_out_does_the_others_once(
        self, bench: ProbeBench
    ) -> None:
        await bench.ledger.start_marking("a")
        await bench.settle()
        assert await bench.audit.notes("a") == ["first", "marked"]

    async def test_a_job_retried_after_days_does_its_calls_once(self, bench: ProbeBench) -> None:
        await bench.ledger.start_job("a", "fail")
        await bench.settle()
        bench.clock.jump(timedelta(days=40).total_seconds())
        queue = bench.host.modules["ledger"].queue
        dead = await queue.entries(state="dead", handler="note_later", after=0, limit=10)
        assert await queue.retry([entry.id for entry in dead]) == 1
        bench.host.worker("ledger").wake()
        await bench.settle()
        assert await bench.audit.notes("a") == ["fail"]

    async def test_subscribers_of_one_event_make_their_calls_each(self, bench: ProbeBench) -> None:
        await bench.ledger.deposit("a", 777)
        await bench.settle()
        assert sorted(await bench.audit.notes("a")) == ["deposited 777", "echo", "echo"]

    async def test_one_key_on_two_operations_calls_for_each(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        assert await ledger.settle("a") == 1
        assert await ledger.settle_too("a") == 2

    async def test_a_command_that_is_late_after_a_call_says_that_it_may_be_done(
        self, bench: ProbeBench
    ) -> None:
        error = await fails(keyed(bench.ledger, "k-1").settle_slowly("a"))
        assert isinstance(error, DeadlineExceededError)
        assert error.outcome is Outcome.MAYBE_DONE
        assert "Nothing was committed" not in str(error)
        assert await bench.audit.notes("a") == ["settled"]

    async def test_a_permission_is_asked_for(self, bench: ProbeBench) -> None:
        await bench.host.proxy(Ledger, principal=AUDITOR).only_auditors()
        error = await fails(bench.host.proxy(Ledger, principal=STRANGER).only_auditors())
        assert isinstance(error, NotPermittedError)

    async def test_internal_operations_take_no_calls_from_outside(self, bench: ProbeBench) -> None:
        spec = bench.host.operations["audit.note"]
        incoming = Incoming(
            operation=spec,
            arguments=spec.arguments(account="a", text="t"),
            principal=Principal(id="operator", permissions=("*",)),
        )
        assert isinstance(await fails(bench.host.entry.call(incoming)), NotPermittedError)

    async def test_arguments_are_validated_in_local_calls_too(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.deposit("", 5))
        assert isinstance(error, InvalidArgumentsError)
        assert error.field == "account"


@pytest.mark.anyio
class BackgroundCases:
    """Rules 10 to 12: delivered at least once, once in effect, in the order of the key."""

    async def test_an_entry_handled_twice_has_its_effect_once(self, bench: ProbeBench) -> None:
        claim = await self._claimed_deposit(bench)
        handle = bench.host.delivery("audit").handle
        await handle(claim.entries[0], claim.fence)
        await handle(claim.entries[0], claim.fence)
        assert await bench.audit.notes("a") == ["deposited 5"]

    async def test_a_worker_whose_lease_has_passed_writes_nothing(self, bench: ProbeBench) -> None:
        claim = await self._claimed_deposit(bench)
        await bench.host.modules["audit"].queue.release_claims()
        with pytest.raises(LeaseLostError):
            await bench.host.delivery("audit").handle(claim.entries[0], claim.fence)
        assert await bench.audit.notes("a") == []

    async def test_queued_work_carries_who_acted_and_for_whom_but_no_deadline(
        self, bench: ProbeBench
    ) -> None:
        await bench.pause("audit")
        await bench.host.proxy(Ledger, principal=AUDITOR, tenant="one").deposit("a", 5)
        await bench.settle()
        queue = bench.host.modules["audit"].queue
        for view in await queue.entries(state="waiting", handler=None, after=0, limit=10):
            envelope = msgspec.msgpack.decode(view.body, type=StoredEnvelope)
            assert envelope.principal == AUDITOR
            assert envelope.tenant == "one"
            assert envelope.deadline is None

    async def test_a_subscriber_acts_for_whoever_set_it_off(self, bench: ProbeBench) -> None:
        await bench.host.proxy(Ledger, principal=AUDITOR).deposit("a", 778)
        await bench.settle()
        assert await bench.audit.notes("a") == ["deposited 778 by auditor"]

    async def test_events_of_one_key_arrive_in_the_order_of_their_commits(
        self, bench: ProbeBench
    ) -> None:
        for amount in range(1, 41):
            await bench.ledger.deposit("a", amount)
        await bench.settle()
        assert await bench.audit.notes("a") == [f"deposited {n}" for n in range(1, 41)]

    async def test_a_dead_letter_releases_its_key(self, bench: ProbeBench) -> None:
        for amount in (1, 667, 2):
            await bench.ledger.deposit("a", amount)
        await bench.settle()
        assert await bench.audit.notes("a") == ["deposited 1", "deposited 2"]

    async def test_a_dead_letter_of_a_projection_holds_its_key_until_it_is_discarded(
        self, bench: ProbeBench
    ) -> None:
        for account in ("a", "b"):
            for amount in (1, 666 if account == "a" else 5, 2):
                await bench.ledger.deposit(account, amount)
        await bench.settle()
        assert await bench.audit.total("a") == 1
        assert await bench.audit.total("b") == 8
        queue = bench.host.modules["audit"].queue
        dead = await queue.entries(state="dead", handler="totals.deposited", after=0, limit=10)
        assert await queue.discard([entry.id for entry in dead]) == 1
        bench.host.worker("audit").wake()
        await bench.settle()
        assert await bench.audit.total("a") == 3

    async def test_a_rebuilt_projection_says_the_same(self, bench: ProbeBench) -> None:
        for amount in range(1, 11):
            await bench.ledger.deposit("a", amount)
        await bench.settle()
        generation = await bench.host.rebuild("audit", "totals")
        await bench.host.rebuilt("audit", "totals")
        assert generation == 2
        assert await bench.audit.total("a") == 55
        await bench.ledger.deposit("a", 45)
        await bench.settle()
        assert await bench.audit.total("a") == 100

    async def test_a_unique_job_is_enqueued_once(self, bench: ProbeBench) -> None:
        await bench.pause("ledger")
        for _ in range(3):
            await bench.ledger.start_job("a", "hello", "one")
        counts = await bench.host.modules["ledger"].queue.counts()
        assert counts["note_later"] == {"waiting": 1}

    async def test_a_schedule_runs_once_at_its_time(self, bench: ProbeBench) -> None:
        bench.clock.jump(timedelta(days=1).total_seconds())
        await bench.settle()
        assert await bench.ledger.balance("interest") == 1

    async def _claimed_deposit(self, bench: ProbeBench) -> Claim:
        await bench.pause("audit")
        await bench.ledger.deposit("a", 5)
        await bench.settle()
        queue = bench.host.modules["audit"].queue
        claim = None
        while claim is None or claim.entries[0].handler != "deposited":
            turn = await queue.cycle(Cycle(finished=[], renew=[], want=1, lease_s=30.0))
            assert turn.claim is not None
            claim = turn.claim
        return claim
