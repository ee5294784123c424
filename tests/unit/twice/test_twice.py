"""The topology `twice` names what is not safe to repeat, and nothing else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from tenfold import TenfoldError, keyed
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.envelope import OPERATOR
from tenfold.contracts.errors import UserMistakeError
from tenfold.path.entry import Incoming, Reply
from tenfold.path.repeats import Finding, NotRepeatableError, ThrownAwayError
from tenfold.ports.peers import Outgoing, Returned
from tenfold.runtimes.host import Host
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.clock import HeldClock
from tests.unit.twice.bank import Bank, BankModule, TooOften
from tests.unit.twice.tills import Till, TillModule

pytestmark = pytest.mark.anyio
SAFE = ("pays", "pays_many", "goes_on", "fails_once")


class Running:
    """A host that is stopped by whoever asks what it has found."""

    def __init__(self, folder: Path, topology: str = "twice") -> None:
        self.clock = HeldClock()
        product = Product(
            name="tills",
            root=folder,
            modules={"bank": BankModule, "till": TillModule},
            mounts={},
            seed=None,
            settings={},
            topology=Topology(name=topology),
        )
        self.host = Host(product, data_dir=folder, clock=self.clock, create_tables=True)
        self._stopped = False

    @property
    def till(self) -> Till:
        return self.host.proxy(Till)

    @property
    def bank(self) -> Bank:
        return self.host.proxy(Bank)

    async def run(self, name: str) -> None:
        """Let one job run to its end."""
        await self.till.start(name)
        await self.host.idle()

    async def call(self, name: str, **more: Any) -> Reply:
        spec = self.host.operations[name]
        return await self.host.entry.call(
            Incoming(operation=spec, arguments=spec.arguments(), principal=OPERATOR, **more)
        )

    async def found(self) -> tuple[Finding, ...]:
        """Stop it; what is raised then."""
        try:
            await self.stop()
        except NotRepeatableError as error:
            return error.findings
        return ()

    async def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            await self.host.stop()


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    BankModule.seen.clear()
    made = Running(tmp_path)
    await made.host.start()
    yield made
    await made.stop()


async def test_who_wants_to_see_each_delivery_is_sent_elsewhere(running: Running) -> None:
    product = running.host.product
    with pytest.raises(UserMistakeError, match="'twice' makes three"):
        Host(product, data_dir=product.root, witness=cast("Any", object()))


async def test_a_good_product_is_told_nothing(running: Running) -> None:
    for name in SAFE:
        await running.run(name)
    await running.till.announce("")
    running.clock.jump(400 * 24 * 3600)
    await running.host.idle()
    assert await keyed(running.till, "k").settle("given") == 1
    with pytest.raises(TooOften):
        await running.till.refuse()
    assert await running.till.look() == ["fails_once", "pays"]
    for account in ("pays", "m1", "m2", "m3", "goes on", "goes on 2", "settle"):
        assert await running.bank.paid(account) == 1, account
    assert await running.bank.paid("sweeps") >= 1
    for module in running.host.modules.values():  # the projection among them took each event once
        assert all(not states.get("dead") for states in (await module.queue.counts()).values())
    assert await running.found() == ()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("new_arguments", r"called bank\.pay under the same key with other arguments: `note` '"),
        ("new_key", r"called bank\.pay with the same arguments under another key: '.*', then '"),
        ("changes_places", r"other arguments: `account` 'one', then 'two'"),
        ("commits_late", r"it committed a unit of work"),
        ("calls_more", r"it called bank\.pay, which the deliveries before had not"),
        ("fails_again", r"it failed with LookupError: there is nothing to do\. A message that is"),
    ],
)
async def test_a_handler_that_is_not_safe_to_repeat_is_named(
    running: Running, name: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    await running.run(name)
    with pytest.raises(NotRepeatableError, match=said) as raised:
        await running.stop()
    (finding,) = raised.value.findings
    assert (finding.target, finding.kind) == (f"till.{name}", "job")
    assert str(finding) in str(raised.value)
    told = [r for r in caplog.records if r.name == "tenfold.repeats"]
    assert [(r.levelno, r.getMessage()) for r in told] == [(logging.ERROR, str(finding))]


async def test_a_batch_is_handled_three_times_and_has_its_effect_once(running: Running) -> None:
    TillModule.batches.clear()
    await running.run("pays_many")
    assert await running.till.tallied() == {"m1": 1, "m2": 1, "m3": 1}
    for account in ("m1", "m2", "m3"):
        assert sum(batch.count(account) for batch in TillModule.batches) == 3
    assert await running.found() == ()


async def test_so_is_a_subscription_and_an_operation_that_calls_others(running: Running) -> None:
    await running.till.announce("told")
    await running.host.idle()
    with pytest.raises(Exception, match="key"):
        await keyed(running.till, "k").settle()
    found = await running.found()
    assert [(f.target, f.kind) for f in found] == [
        ("till.announced", "event"),
        ("till.settle", "command"),
    ]


async def test_a_command_is_begun_twice_and_then_answered_from_its_reply(running: Running) -> None:
    assert await running.bank.pay("one") == 1
    assert BankModule.seen == [("pay", "one")] * 2
    assert await running.bank.paid("one") == 1


async def test_three_deliveries_travel_of_which_the_first_is_thrown_away(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[Any] = []
    carry = RemoteService.call

    async def seen(self: RemoteService, outgoing: Outgoing) -> Returned:
        try:
            returned = await carry(self, outgoing)
        except TenfoldError as error:
            ends.append((type(error), outgoing.key))
            raise
        ends.append((returned.value, returned.replayed, outgoing.key))
        return returned

    monkeypatch.setattr(RemoteService, "call", seen)
    assert await keyed(running.bank, "k").pay("one") == 1
    assert ends == [(ThrownAwayError, "k"), (1, False, "k"), (1, True, "k")]


async def test_where_a_delivery_fails_the_next_one_counts(running: Running) -> None:
    assert await running.till.fail_twice() == 3
    assert await running.found() == ()


@pytest.mark.parametrize(("topology", "times"), [("twice", 2), ("prototype", 1)])
async def test_a_question_goes_over_the_wire_twice(
    tmp_path: Path, topology: str, times: int
) -> None:
    running = Running(tmp_path, topology)
    await running.host.start()
    BankModule.seen.clear()
    await running.bank.accounts(["a"])
    assert len(BankModule.seen) == times
    # In one process it is answered by the caller's task, and over the wire by the server's.
    assert (asyncio.current_task() in BankModule.seen) == (topology == "prototype")
    await running.stop()


async def test_an_edge_is_told_whether_a_key_came_before(running: Running) -> None:
    replies = [await running.call("till.fail_twice", idempotency_key="k") for _ in range(2)]
    assert [(reply.value, reply.replayed) for reply in replies] == [(3, False), (3, True)]


async def test_no_socket_and_no_thread_is_left(running: Running) -> None:
    await running.run("pays")
    assert running.host._twice is not None
    folder = Path(running.host._twice._folder.name)
    assert [path.name for path in folder.iterdir()] == ["twice.sock"]
    await running.stop()
    assert not folder.exists()
