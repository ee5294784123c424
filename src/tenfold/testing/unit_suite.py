"""What every store must do for units of work: the conformance cases of the model's rules.

They speak to the probe product through its contracts. An adapter's test file
subclasses the classes below and gives a fixture `bench`.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any, Protocol

import pytest

from tenfold import Principal, keyed
from tenfold.contracts.errors import (
    AwaitInsideUnitOfWorkError,
    CallInsideUnitOfWorkError,
    DeadlineExceededError,
    HandlerFaultError,
    KeyReusedError,
    Outcome,
    OutOfUnitOfWorkError,
    TenfoldError,
    UndeclaredRefusalError,
)
from tenfold.path.entry import Incoming, Reply
from tenfold.runtimes.host import Host
from tenfold.testing.clock import HeldClock
from tenfold.testing.probe.audit_contract import Audit
from tenfold.testing.probe.ledger_contract import Ledger, NotEnough

__all__ = [
    "AtomicCases",
    "AUDITOR",
    "STRANGER",
    "GatherCases",
    "IsolationCases",
    "OwnershipCases",
    "KeyedCases",
    "PositionCases",
    "ProbeBench",
    "TenantCases",
    "fails",
]

AUDITOR = Principal(id="auditor", permissions=("auditor",))
STRANGER = Principal(id="stranger")


class ProbeBench(Protocol):
    """What an adapter's tests hand to the cases: the probe, running on an empty store."""

    host: Host
    clock: HeldClock
    ledger: Ledger
    audit: Audit

    async def settle(self) -> None:
        """Until nothing is left to do, moving the clock to whatever waits for a time."""
        ...

    async def pause(self, module: str) -> None:
        """Let nobody work a module's queue any more."""
        ...


async def fails(call: Any) -> TenfoldError:
    """Await a call that must fail with a TenfoldError, and return the error."""
    with pytest.raises(TenfoldError) as caught:
        await call
    return caught.value


@pytest.mark.anyio
class AtomicCases:
    """Rule 4: one message, one unit of work, one commit; whatever fails leaves nothing."""

    async def test_rows_and_events_commit_together(self, bench: ProbeBench) -> None:
        assert await bench.ledger.deposit("a", 5) == 5
        await bench.settle()
        assert await bench.ledger.balance("a") == 5
        assert await bench.audit.notes("a") == ["deposited 5"]
        assert await bench.audit.total("a") == 5

    @pytest.mark.parametrize(
        "then",
        [
            "fail",
            "refuse undeclared",
            "call",
            "sleep",
            "yield",
            "gather",
            "swallow call",
            "swallow sleep",
            "swallow yield",
        ],
    )
    async def test_what_fails_leaves_nothing(self, bench: ProbeBench, then: str) -> None:
        error = await fails(bench.ledger.deposit("a", 5, then))
        assert error.outcome is Outcome.NOT_DONE
        await bench.settle()
        assert await bench.ledger.balance("a") == 0
        assert await bench.audit.notes("a") == []

    async def test_a_refusal_leaves_nothing_and_keeps_its_fields(self, bench: ProbeBench) -> None:
        await bench.ledger.deposit("a", 5)
        with pytest.raises(NotEnough) as caught:
            await bench.ledger.withdraw("a", 6)
        assert caught.value.balance == 5
        assert await bench.ledger.balance("a") == 5

    async def test_an_undeclared_refusal_is_a_fault_of_the_handler(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.deposit("a", 5, "refuse undeclared"))
        assert isinstance(error, UndeclaredRefusalError)
        assert "NeverDeclared" in str(error)

    async def test_an_unexpected_exception_is_a_fault(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.deposit("a", 5, "fail"))
        assert isinstance(error, HandlerFaultError)
        assert isinstance(error.__cause__, ZeroDivisionError)

    @pytest.mark.parametrize("buffered", [False, True])
    async def test_a_constraint_refuses_as_declared(
        self, bench: ProbeBench, buffered: bool
    ) -> None:
        await bench.ledger.deposit("a", 5)
        with pytest.raises(NotEnough):
            await bench.ledger.withdraw_by_constraint("a", 6, buffered)
        await bench.ledger.withdraw_by_constraint("a", 5, buffered)
        assert await bench.ledger.balance("a") == 0

    async def test_the_failures_of_some_spare_those_committed_beside_them(
        self, bench: ProbeBench
    ) -> None:
        calls = [bench.ledger.deposit("a", 1, "fail" if i % 2 else "") for i in range(40)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, HandlerFaultError) for answer in answers) == 20
        await bench.settle()
        assert await bench.ledger.balance("a") == 20
        assert await bench.audit.notes("a") == ["deposited 1"] * 20

    async def test_a_cancelled_call_leaves_nothing_or_all(self, bench: ProbeBench) -> None:
        tasks = [asyncio.create_task(bench.ledger.deposit("a", 1)) for _ in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await bench.settle()
        balance = await bench.ledger.balance("a")
        assert 15 <= balance <= 30
        assert len(await bench.audit.notes("a")) == balance

    async def test_a_call_without_time_left_leaves_nothing(self, bench: ProbeBench) -> None:
        spec = bench.host.operations["ledger.deposit"]
        incoming = Incoming(
            operation=spec,
            arguments=spec.arguments(account="a", amount=5, then=""),
            principal=AUDITOR,
            timeout_s=1e-9,
        )
        error = await fails(bench.host.entry.call(incoming))
        assert isinstance(error, DeadlineExceededError)
        await bench.settle()
        assert error.outcome is Outcome.MAYBE_DONE or await bench.ledger.balance("a") == 0

    async def test_a_read_sees_the_writes_that_were_buffered_before_it(
        self, bench: ProbeBench
    ) -> None:
        assert await bench.ledger.deposit_buffered("a", 5) == 5
        assert await bench.ledger.deposit_buffered("a", 2) == 7


@pytest.mark.anyio
class OwnershipCases:
    """Rule 1: a module reads and writes its own database, and no other's."""

    async def test_the_database_of_another_module_is_refused(
        self, bench: ProbeBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        modules = bench.host.modules
        monkeypatch.setattr(
            type(modules["ledger"].instance), "borrowed", modules["audit"].instance.db
        )
        error = await fails(bench.ledger.deposit("a", 5, "borrow"))
        assert isinstance(error, OutOfUnitOfWorkError)
        assert "through its contract" in str(error)
        assert await bench.ledger.balance("a") == 0


@pytest.mark.anyio
class GatherCases:
    """Rule 5: gather, then commit; inside, a handler awaits only its own database."""

    async def test_a_call_inside_says_how_to_mend_it(self, bench: ProbeBench) -> None:
        error = await fails(bench.ledger.deposit("a", 5, "call"))
        assert isinstance(error, CallInsideUnitOfWorkError)
        assert "audit.notes" in str(error)
        assert "above the handler's first statement" in str(error)

    @pytest.mark.parametrize("then", ["sleep", "yield", "gather", "swallow sleep", "swallow yield"])
    async def test_a_foreign_await_inside_says_how_to_mend_it(
        self, bench: ProbeBench, then: str
    ) -> None:
        error = await fails(bench.ledger.deposit("a", 5, then))
        assert isinstance(error, AwaitInsideUnitOfWorkError)
        assert "Gather first" in str(error)

    async def test_a_query_cannot_write(self, bench: ProbeBench) -> None:
        assert isinstance(await fails(bench.ledger.write_in_query("a")), OutOfUnitOfWorkError)
        assert await bench.ledger.balance("a") == 0


@pytest.mark.anyio
class IsolationCases:
    """Rule 3: serializable, everywhere."""

    async def test_no_update_is_lost(self, bench: ProbeBench) -> None:
        await bench.ledger.deposit("a", 0)
        await asyncio.gather(*(bench.ledger.increment("a") for _ in range(50)))
        assert await bench.ledger.balance("a") == 50

    async def test_there_is_no_write_skew(self, bench: ProbeBench) -> None:
        for round_ in range(10):
            one, two = f"one-{round_}", f"two-{round_}"
            await bench.ledger.deposit(one, 1)
            await bench.ledger.deposit(two, 1)
            await asyncio.gather(
                bench.ledger.take_one_of_two(one, two), bench.ledger.take_one_of_two(two, one)
            )
            assert await bench.ledger.balance(one) + await bench.ledger.balance(two) == 1

    async def test_a_balance_never_falls_below_zero(self, bench: ProbeBench) -> None:
        await bench.ledger.deposit("a", 10)
        calls = [bench.ledger.withdraw("a", 1) for _ in range(30)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, NotEnough) for answer in answers) == 20
        assert await bench.ledger.balance("a") == 0


@pytest.mark.anyio
class KeyedCases:
    """Rule 7: a keyed command is done once, and answers as the first time."""

    async def test_a_key_replays_the_first_reply(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        assert await ledger.deposit("a", 5) == 5
        assert await bench.ledger.deposit("a", 1) == 6
        assert await ledger.deposit("a", 5) == 5
        assert await bench.ledger.balance("a") == 6

    async def test_another_request_under_the_key_is_refused(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        await ledger.deposit("a", 5)
        assert isinstance(await fails(ledger.deposit("a", 6)), KeyReusedError)
        assert await bench.ledger.balance("a") == 5

    async def test_of_many_at_once_one_commits_and_all_answer_alike(
        self, bench: ProbeBench
    ) -> None:
        ledger = keyed(bench.ledger, "k-1")
        answers = await asyncio.gather(*(ledger.deposit("a", 5) for _ in range(20)))
        assert answers == [5] * 20
        await bench.settle()
        assert await bench.ledger.balance("a") == 5
        assert await bench.audit.notes("a") == ["deposited 5"]

    async def test_a_key_belongs_to_its_principal(self, bench: ProbeBench) -> None:
        mine = keyed(bench.host.proxy(Ledger, principal=AUDITOR), "k-1")
        theirs = keyed(bench.host.proxy(Ledger, principal=STRANGER), "k-1")
        assert await mine.deposit("a", 5) == 5
        assert await theirs.deposit("a", 5) == 10

    async def test_a_key_belongs_to_its_tenant(self, bench: ProbeBench) -> None:
        mine = keyed(bench.host.proxy(Ledger, tenant="one"), "k-1")
        theirs = keyed(bench.host.proxy(Ledger, tenant="two"), "k-1")
        assert await mine.deposit("a", 5) == 5
        assert await theirs.deposit("a", 7) == 7

    async def test_a_key_belongs_to_its_operation(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        assert await ledger.deposit("a", 5) == 5
        assert await ledger.withdraw("a", 5) == 0

    async def test_a_refused_request_leaves_its_key_free(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        with pytest.raises(NotEnough):
            await ledger.withdraw("a", 5)
        await bench.ledger.deposit("a", 5)
        assert await ledger.withdraw("a", 5) == 0

    async def test_a_key_expires_after_a_day(self, bench: ProbeBench) -> None:
        ledger = keyed(bench.ledger, "k-1")
        await ledger.deposit("a", 5)
        bench.clock.jump(timedelta(hours=25).total_seconds())
        assert await ledger.deposit("a", 5) == 10


@pytest.mark.anyio
class PositionCases:
    """Rule 16: who sends the position of a reply reads its own writes."""

    async def test_a_projection_is_waited_for(self, bench: ProbeBench) -> None:
        for amount in range(1, 21):
            reply = await self._deposit(bench, amount)
            seen = await self._total(bench, reply.position)
            assert seen.value == sum(range(1, amount + 1))
            assert not seen.behind

    async def test_a_projection_that_cannot_keep_up_says_so(self, bench: ProbeBench) -> None:
        await bench.pause("audit")
        reply = await self._deposit(bench, 5)
        seen = await self._total(bench, reply.position)
        assert seen.value == 0
        assert seen.behind

    @pytest.mark.parametrize("token", ["", "nonsense", "ledger.other-epoch.99", "ledger.x.-1,a.b"])
    async def test_a_token_of_another_log_asks_for_nothing(
        self, bench: ProbeBench, token: str
    ) -> None:
        assert not (await self._total(bench, token)).behind

    async def _deposit(self, bench: ProbeBench, amount: int) -> Reply:
        spec = bench.host.operations["ledger.deposit"]
        arguments = spec.arguments(account="a", amount=amount, then="")
        return await bench.host.entry.call(
            Incoming(operation=spec, arguments=arguments, principal=AUDITOR)
        )

    async def _total(self, bench: ProbeBench, position: str | None) -> Reply:
        spec = bench.host.operations["audit.total"]
        return await bench.host.entry.call(
            Incoming(
                operation=spec,
                arguments=spec.arguments(account="a"),
                principal=AUDITOR,
                internal=True,
                position=position,
            )
        )


@pytest.mark.anyio
class TenantCases:
    """Rule 2: what belongs to one tenant is not there for another."""

    async def test_rows_events_and_projections_keep_to_their_tenant(
        self, bench: ProbeBench
    ) -> None:
        for tenant, amount in (("one", 5), ("two", 7)):
            await bench.host.proxy(Ledger, tenant=tenant).deposit("a", amount)
        await bench.settle()
        for tenant, amount in (("one", 5), ("two", 7), ("three", 0)):
            assert await bench.host.proxy(Ledger, tenant=tenant).balance("a") == amount
            audit = bench.host.proxy(Audit, tenant=tenant)
            assert await audit.total("a") == amount
            assert await audit.notes("a") == ([f"deposited {amount}"] if amount else [])
