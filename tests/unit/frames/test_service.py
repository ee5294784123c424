"""A service of several processes: who is asked, and what becomes of a call that was lost."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pytest

from tenfold import Contract, Outcome, command, query
from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.errors import OverloadedError, TenfoldError
from tenfold.edges.frames import FrameServer, bind_socket
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.frames import PeerLostError, PeerUnavailableError
from tenfold.ports.peers import Outgoing

pytestmark = pytest.mark.anyio
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Mill(Contract, Protocol):
    """A mill."""

    @query(who="internal")
    async def ask(self) -> str:
        """Who answers."""
        ...

    @command(who="internal")
    async def grind(self) -> str:
        """Who did it."""
        ...


OPERATIONS = {f"mill.{n}": spec for n, spec in read_contract(Mill).operations.items()}


def at(path: Path, *, links: int) -> Fixed:
    """A service whose processes share one socket."""
    return Fixed({str(path): partial(connect, path)}, links=links)


class Process:
    """One process of the service, without a path."""

    def __init__(self, name: str, listener: socket.socket) -> None:
        self.name = name
        self.seen: list[Incoming] = []
        self.begun = asyncio.Event()
        self.holds = False
        self.release = asyncio.Event()
        self.error: TenfoldError | None = None
        self.server = FrameServer("test", self, OPERATIONS, process=name)
        self._listener = listener

    async def call(self, incoming: Incoming) -> Reply:
        self.seen.append(incoming)
        self.begun.set()
        if self.holds:
            await self.release.wait()
        if self.error is not None:
            raise self.error
        return Reply(value=self.name, trace=TRACE)

    async def start(self) -> None:
        await self.server.listen(self._listener.dup())

    def kill(self) -> None:
        """As `kill -9` does to its connections."""
        for connection in list(self.server.connections):
            assert connection.transport is not None
            connection.transport.abort()


class Fleet:
    """Two processes that share a socket, and a caller."""

    def __init__(self, path: Path) -> None:
        self.listener = bind_socket(path)
        self.listener.listen(16)
        self.one, self.other = Process("one", self.listener), Process("other", self.listener)
        self.remote = RemoteService("mill", at(path, links=4))

    async def call(self, name: str = "ask", key: str | None = None, timeout_s: float = 5.0) -> Any:
        spec = OPERATIONS[f"mill.{name}"]
        outgoing = Outgoing(
            operation=spec, arguments=spec.arguments(), key=key, timeout_s=timeout_s
        )
        return (await self.remote.call(outgoing)).value


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        made = Fleet(Path(folder) / "s")
        await made.one.start()
        yield made
        await made.remote.close()
        for process in (made.one, made.other):
            process.release.set()
            await process.server.stop(drain_s=1)
        made.listener.close()


async def test_connections_are_made_when_somebody_calls_and_kept(fleet: Fleet) -> None:
    assert not fleet.one.server.connections
    assert await asyncio.gather(*(fleet.call() for _ in range(20))) == ["one"] * 20
    while len(fleet.one.server.connections) < 4:
        await asyncio.sleep(0)
    assert await fleet.call() == "one"
    assert len(fleet.one.server.connections) == 4


async def test_a_process_that_leaves_answers_and_a_new_one_takes_over(fleet: Fleet) -> None:
    fleet.one.holds = True
    held = asyncio.create_task(fleet.call("grind"))
    await fleet.one.begun.wait()
    fleet.one.holds = False
    await fleet.other.start()
    stopping = asyncio.create_task(fleet.one.server.stop(drain_s=5))
    answers = [await fleet.call() for _ in range(20)]
    assert set(answers[-10:]) == {"other"}
    fleet.one.release.set()
    assert await held == "one"
    await stopping
    assert not fleet.one.server.connections


@pytest.mark.parametrize(("name", "key"), [("ask", None), ("grind", "k-1")])
async def test_what_may_be_sent_again_is_when_its_process_is_lost(
    fleet: Fleet, name: str, key: str | None
) -> None:
    fleet.one.holds = True
    waiting = asyncio.create_task(fleet.call(name, key))
    await fleet.one.begun.wait()
    await fleet.other.start()
    await fleet.one.server.stop(drain_s=0)
    assert await waiting == "other"
    assert fleet.other.seen[-1].idempotency_key == key


async def test_a_command_without_a_key_is_not_sent_twice(fleet: Fleet) -> None:
    fleet.one.holds = True
    waiting = asyncio.create_task(fleet.call("grind"))
    await fleet.one.begun.wait()
    fleet.one.kill()
    with pytest.raises(PeerLostError, match="may still have run") as raised:
        await waiting
    assert raised.value.outcome is Outcome.MAYBE_DONE
    assert len(fleet.one.seen) == 1


async def test_after_a_loss_nobody_says_that_nothing_was_done(fleet: Fleet) -> None:
    fleet.one.holds = True
    waiting = asyncio.create_task(fleet.call("grind", "k-2"))
    await fleet.one.begun.wait()
    fleet.one.holds = False
    fleet.one.error = OverloadedError("Too much.")
    fleet.one.kill()
    with pytest.raises(OverloadedError) as raised:
        await waiting
    assert raised.value.outcome is Outcome.MAYBE_DONE


async def test_a_process_that_is_lost_each_time_is_not_asked_for_ever(fleet: Fleet) -> None:
    fleet.one.holds = True
    waiting = asyncio.create_task(fleet.call("grind", "k-3"))
    for _ in range(3):
        await fleet.one.begun.wait()
        fleet.one.begun.clear()
        fleet.one.kill()
    with pytest.raises(PeerLostError):
        await waiting
    assert [seen.idempotency_key for seen in fleet.one.seen] == ["k-3"] * 3


async def test_what_is_left_of_the_time_goes_with_a_call_that_is_sent_again(fleet: Fleet) -> None:
    fleet.one.holds = True
    waiting = asyncio.create_task(fleet.call("ask", timeout_s=3.0))
    await fleet.one.begun.wait()
    await asyncio.sleep(0.05)
    fleet.one.holds = False
    fleet.one.kill()
    await waiting
    first, second = (seen.timeout_s or 0.0 for seen in fleet.one.seen)
    assert second < first <= 3.0


async def test_nobody_there_is_told_in_time_and_nothing_was_done(tmp_path: Path) -> None:
    remote = RemoteService("mill", at(tmp_path / "none", links=2))
    spec = OPERATIONS["mill.grind"]
    outgoing = Outgoing(operation=spec, arguments=spec.arguments(), key="k", timeout_s=0.3)
    with pytest.raises(PeerUnavailableError, match="'mill'") as raised:
        await remote.call(outgoing)
    assert raised.value.outcome is Outcome.NOT_DONE
    await remote.close()


async def test_a_call_waits_for_a_process_that_comes_back(fleet: Fleet) -> None:
    assert await fleet.call() == "one"
    await fleet.one.server.stop(drain_s=0)
    waiting = asyncio.create_task(fleet.call())
    await asyncio.sleep(0)
    await fleet.other.start()
    assert await waiting == "other"


async def test_a_service_that_is_away_for_long_is_told_at_once(tmp_path: Path) -> None:
    remote = RemoteService("mill", at(tmp_path / "none", links=2))
    spec = OPERATIONS["mill.ask"]
    outgoing = Outgoing(operation=spec, arguments=spec.arguments(), timeout_s=30.0)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    with pytest.raises(PeerUnavailableError, match="can be reached"):
        await remote.call(outgoing)
    assert loop.time() - began_s < 20
    began_s = loop.time()
    with pytest.raises(PeerUnavailableError):
        await remote.call(outgoing)
    assert loop.time() - began_s < 1
    await remote.close()


async def test_queued_work_is_not_sent_again_but_begun_again(fleet: Fleet) -> None:
    fleet.one.holds = True
    spec = OPERATIONS["mill.grind"]
    outgoing = Outgoing(operation=spec, arguments=spec.arguments(), key="k", queued=True)
    waiting = asyncio.create_task(fleet.remote.call(outgoing))
    await fleet.one.begun.wait()
    fleet.one.kill()
    with pytest.raises(PeerLostError):
        await waiting
    assert len(fleet.one.seen) == 1


async def test_what_a_process_says_of_another_service_is_its_answer(fleet: Fleet) -> None:
    fleet.one.error = PeerLostError("Another service was lost.")
    with pytest.raises(PeerLostError, match="Another service"):
        await fleet.call("grind", "k-4")
    assert len(fleet.one.seen) == 1


async def test_after_a_while_a_process_that_has_come_is_asked_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenfold.adapters.frames.endpoints._LIFE_S", 0.02)
    assert await fleet.call() == "one"
    until = asyncio.get_running_loop().time() + 10
    while len(fleet.one.server.connections) < 4:  # there is none left to be made
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.001)
    await fleet.other.start()
    while "other" not in {await fleet.call() for _ in range(4)}:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.005)
    while len(fleet.one.server.connections) + len(fleet.other.server.connections) > 4:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.005)
