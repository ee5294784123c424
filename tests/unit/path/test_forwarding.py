"""What travels of a call to the process that hosts its module, and what its answer means here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, final

import pytest

from tenfold import Contract, Outcome, command, job, keyed, query, stale_ok
from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import (
    DeadlineExceededError,
    NotPermittedError,
    OverloadedError,
    TenfoldError,
)
from tenfold.path.entry import Incoming, Reply
from tenfold.path.shedding import SheddingSettings
from tenfold.ports.frames import FrameError
from tenfold.ports.peers import Outgoing, Returned
from tenfold.runtimes.host import Host
from tenfold.runtimes.settings import QueueLimits
from tenfold.runtimes.topology import Product, Topology
from tenfold.testing.clock import HeldClock

pytestmark = pytest.mark.anyio
BUYER = Principal(id="buyer")


class Mill(Contract, Protocol):
    """Lives elsewhere."""

    @query(who="anyone", cache_s=60)
    async def look(self) -> int:
        """Look."""
        ...

    @command(who="anyone", timeout_s=0.2)
    async def grind(self) -> int:
        """Grind."""
        ...

    @command(who="internal")
    async def oil(self) -> int:
        """Oil."""
        ...


@final
class MillModule(Mill):
    """Never runs here."""

    async def look(self) -> int:
        raise AssertionError("it is hosted elsewhere")

    async def grind(self) -> int:
        raise AssertionError("it is hosted elsewhere")

    async def oil(self) -> int:
        raise AssertionError("it is hosted elsewhere")


class Yard(Contract, Protocol):
    """Lives here, and asks the mill."""

    @query(who="anyone")
    async def read(self, stale: bool = False) -> int:
        """Asks a query."""
        ...

    @command(who="anyone")
    async def gather(self) -> int:
        """Asks a query for a decision."""
        ...

    @command(who="anyone", key="required")
    async def order(self) -> int:
        """Calls a command."""
        ...

    @command(who="anyone")
    async def later(self) -> None:
        """Enqueues a job that calls a command."""
        ...


@final
class YardModule(Yard):
    """Asks the mill."""

    mill: Mill

    async def read(self, stale: bool = False) -> int:
        return await (stale_ok(self.mill) if stale else self.mill).look()

    async def gather(self) -> int:
        return await self.mill.look()

    async def order(self) -> int:
        return await self.mill.grind()

    async def later(self) -> None:
        self.call.enqueue()

    @job(attempts=1)
    async def call(self) -> None:
        await self.mill.oil()


class FakePeer:
    """Another process, without one."""

    def __init__(self) -> None:
        self.seen: list[Outgoing] = []
        self.answer: Callable[[], Returned] = lambda: Returned(value=7)
        self.holds = False

    async def call(self, outgoing: Outgoing) -> Returned:
        self.seen.append(outgoing)
        if self.holds:
            await asyncio.Event().wait()
        return self.answer()

    def fail(self, error: TenfoldError) -> None:
        def answer() -> Returned:
            raise error

        self.answer = answer


@pytest.fixture
def peer() -> FakePeer:
    return FakePeer()


@pytest.fixture
async def host(product: Product, clock: HeldClock, peer: FakePeer) -> AsyncIterator[Host]:
    made = Host(
        product,
        data_dir=product.root,
        clock=clock,
        create_tables=True,
        peers={"mill": peer},
    )
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def product(tmp_path: Path) -> Product:
    return Product(
        name="mills",
        root=tmp_path,
        modules={"mill": MillModule, "yard": YardModule},
        mounts={},
        seed=None,
        settings={},
        topology=Topology(
            shedding=SheddingSettings(enabled=True), queue=QueueLimits(max_backlog={"mill": 5})
        ),
    )


async def call(host: Host, name: str, **more: Any) -> Reply:
    spec = host.operations[name]
    return await host.entry.call(
        Incoming(operation=spec, arguments=spec.arguments(), principal=BUYER, **more)
    )


async def test_a_call_from_outside_travels_as_one(host: Host, peer: FakePeer) -> None:
    await call(host, "mill.look", tenant="t", position="mill.e.3", timeout_s=0.7, wait_s=2.0)
    (seen,) = peer.seen
    assert (seen.module, seen.operation.name) == ("mill", "look")
    assert (seen.principal, seen.tenant, seen.position) == (BUYER, "t", "mill.e.3")
    assert (seen.outside, seen.decision, seen.queued, seen.key) == (True, False, False, None)
    assert (seen.wait_s, (seen.timeout_s or 9) <= 0.7) == (2.0, True)
    assert seen.trace is not None


async def test_a_command_without_a_key_gets_one_and_another_keeps_its_own(
    host: Host, peer: FakePeer
) -> None:
    await call(host, "mill.grind")
    await call(host, "mill.grind")
    await call(host, "mill.grind", idempotency_key="mine")
    first, second, third = (seen.key for seen in peer.seen)
    assert first
    assert second
    assert first != second
    assert third == "mine"


async def test_nobody_from_outside_reaches_what_is_internal(host: Host, peer: FakePeer) -> None:
    with pytest.raises(NotPermittedError):
        await call(host, "mill.oil")
    assert not peer.seen
    await call(host, "mill.oil", internal=True)
    assert not peer.seen[0].outside


async def test_what_came_back_is_the_reply(host: Host, peer: FakePeer) -> None:
    peer.answer = lambda: Returned(value=8, position="mill.e.9", replayed=True, settled=True)
    reply = await call(host, "mill.grind", position="mill.e.3")
    assert (reply.value, reply.position, reply.replayed, reply.settled) == (
        8,
        "mill.e.9",
        True,
        True,
    )
    peer.answer = lambda: Returned(value=8)
    assert (await call(host, "mill.look", position="mill.e.3")).position == "mill.e.3"


@pytest.mark.parametrize(
    ("name", "outcome"), [("look", Outcome.NOT_DONE), ("grind", Outcome.MAYBE_DONE)]
)
async def test_who_says_nothing_is_not_waited_for_for_ever(
    host: Host, peer: FakePeer, name: str, outcome: Outcome
) -> None:
    peer.holds = True
    with pytest.raises(DeadlineExceededError, match="has not answered") as raised:
        await call(host, f"mill.{name}", timeout_s=0.1)
    assert raised.value.outcome is outcome


async def test_who_waits_for_another_process_takes_no_room_here(host: Host, peer: FakePeer) -> None:
    assert host.door is not None
    shedder = host.door.shedder
    assert shedder is not None
    peer.holds = True
    waiting = asyncio.create_task(call(host, "mill.look"))
    while not peer.seen:
        await asyncio.sleep(0)
    assert shedder.counts.present == 0
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_handler_s_question_is_for_a_decision_unless_it_is_said(
    host: Host, peer: FakePeer
) -> None:
    yard = host.proxy(Yard, principal=BUYER)
    await yard.read()
    await yard.read(stale=True)
    await yard.gather()
    assert [seen.decision for seen in peer.seen] == [False, False, True]
    assert {(seen.principal, seen.outside) for seen in peer.seen} == {(BUYER, False)}


async def test_a_command_s_call_has_a_key_made_of_its_own(host: Host, peer: FakePeer) -> None:
    for _ in range(2):
        await keyed(host.proxy(Yard), "k").order()
    keys = {seen.key for seen in peer.seen}
    assert len(keys) == 1
    assert "k" in str(keys.pop())
    assert not any(seen.queued for seen in peer.seen)


async def test_a_job_s_call_says_that_it_is_queued_work(host: Host, peer: FakePeer) -> None:
    await host.proxy(Yard).later()
    await host.idle()
    assert [(seen.queued, bool(seen.key)) for seen in peer.seen] == [(True, True)]


@pytest.mark.parametrize(
    ("name", "outcome"), [("gather", Outcome.NOT_DONE), ("order", Outcome.MAYBE_DONE)]
)
async def test_what_another_module_has_done_is_not_this_one_s_work(
    host: Host, peer: FakePeer, name: str, outcome: Outcome
) -> None:
    peer.fail(FrameError("Its answer could not be read.", outcome=Outcome.DONE))
    with pytest.raises(FrameError) as raised:
        await call(host, f"yard.{name}", idempotency_key="k")
    assert raised.value.outcome is outcome


async def test_queued_work_of_others_is_delayed_and_not_shed(
    host: Host, peer: FakePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host._running, "_most_in_flight", 1)
    peer.holds = True
    waiting = asyncio.create_task(call(host, "mill.look"))
    while not peer.seen:
        await asyncio.sleep(0)
    peer.holds = False
    with pytest.raises(OverloadedError):
        await call(host, "yard.gather")
    await call(host, "yard.gather", internal=True, queued=True)
    assert host.door is not None
    monkeypatch.setattr(host.door, "full", lambda *_: OverloadedError("The queue is full."))
    await call(host, "yard.gather", internal=True, queued=True)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_the_key_of_queued_work_is_remembered_for_as_long_as_it_may_run(
    host: Host, peer: FakePeer, clock: HeldClock
) -> None:
    for queued, times in ((False, 2), (True, 3)):
        for _ in range(2):
            await call(
                host, "yard.gather", internal=True, queued=queued, idempotency_key=f"k-{queued}"
            )
            clock.jump(timedelta(days=2).total_seconds())
        assert len(peer.seen) == times


async def test_who_keeps_no_answers_drops_what_others_keep_and_a_gateway_does_neither(
    host: Host, product: Product, peer: FakePeer, tmp_path: Path
) -> None:
    assert host.caches is not None
    gateway = Host(product, data_dir=tmp_path / "none", peers={"mill": peer, "yard": peer})
    await gateway.start()
    try:
        assert gateway.caches is None
        assert gateway.door is not None
        assert gateway.door.backlogs is not None
        assert gateway.door.backlogs.watched == ()  # it hosts no queue that it could look at
        assert (await call(gateway, "mill.look")).value == 7
    finally:
        await gateway.stop()
    assert not (tmp_path / "none").exists()
