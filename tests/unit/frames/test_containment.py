"""A service whose processes fail, hang or are slow: what it costs those who call it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import pytest

from tenfold import Contract, Event, Outcome, Refusal, command, query
from tenfold.adapters.frames.balancing import MOST_FAULTS_IN_A_ROW
from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.latencies import LEAST_S
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    InvalidArgumentsError,
    OverloadedError,
    TenfoldError,
)
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply
from tenfold.ports.frames import CircuitOpenError, PeerLostError
from tenfold.ports.peers import Outgoing, ServiceStatistics

pytestmark = pytest.mark.anyio
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Closed(Refusal, status=409):
    """The mill is closed."""


class Ground(Event, key="lot"):
    """It has been ground."""

    lot: str


class Mill(Contract, Protocol):
    """A mill."""

    publishes = (Ground,)

    @query(who="internal", raises=[Closed])
    async def ask(self) -> str:
        """Who answers."""
        ...

    @query(who="internal", hedge=True)
    async def look(self) -> str:
        """Who answers, soon."""
        ...

    @command(who="internal")
    async def grind(self) -> str:
        """Who did it."""
        ...

    @command(who="internal", settled_by=[Ground])
    async def order(self) -> str:
        """Who took it."""
        ...


OPERATIONS = {f"mill.{n}": spec for n, spec in read_contract(Mill).operations.items()}


class Process:
    """One process of the service, at a socket of its own."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self.path = path
        self.seen = self.cancelled = 0
        self.given_s: float | None = None
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.error: Exception | None = None
        self.server = FrameServer("test", self, OPERATIONS, process=name)

    async def call(self, incoming: Incoming) -> Reply:
        self.seen += 1
        self.given_s = incoming.timeout_s
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Reply(value=self.name, trace=TRACE)

    def drop(self) -> None:
        """As `kill -9` does to its connections."""
        for connection in list(self.server.connections):
            assert connection.transport is not None
            connection.transport.abort()


class Fleet:
    """Some processes, and a caller."""

    def __init__(self, folder: Path, size: int, most: int) -> None:
        self.processes = [Process(f"p{number}", folder / f"{number}") for number in range(size)]
        places = {p.name: partial(connect, p.path) for p in self.processes}
        self.remote = RemoteService("mill", Fixed(places, links=1), most=most)

    async def call(
        self,
        name: str = "ask",
        key: str | None = None,
        timeout_s: float | None = 5.0,
        wait_s: float | None = None,
    ) -> Any:
        spec = OPERATIONS[f"mill.{name}"]
        outgoing = Outgoing(
            operation=spec,
            arguments=spec.arguments(),
            module="mill",
            key=key,
            timeout_s=timeout_s,
            wait_s=wait_s,
        )
        return (await self.remote.call(outgoing)).value

    def usual_s(self, name: str) -> float:
        """What an operation usually takes, as far as is known."""
        spec = OPERATIONS[f"mill.{name}"]
        return self.remote._records[id(spec)].latencies.usual_s

    async def fails(self, error: type[Exception], name: str = "ask", timeout_s: float = 5.0) -> Any:
        with pytest.raises(error) as raised:
            await self.call(name, timeout_s=timeout_s)
        return raised.value

    @property
    def statistics(self) -> ServiceStatistics:
        return self.remote.statistics()

    def circuit(self, name: str = "ask") -> str:
        return next(
            each.circuit for each in self.statistics.operations if each.target == f"mill.{name}"
        )


@pytest.fixture
async def start() -> AsyncIterator[Any]:
    with tempfile.TemporaryDirectory(prefix="tf-") as folder:
        fleets: list[Fleet] = []

        async def begin(size: int, *, most: int = 500) -> Fleet:
            fleet = Fleet(Path(folder), size, most)
            fleets.append(fleet)
            for process in fleet.processes:
                await process.server.start(process.path)
            await fleet.call()
            while sum(fleet.statistics.endpoints.values()) < size:
                await asyncio.sleep(0)
            return fleet

        yield begin
        for fleet in fleets:
            await fleet.remote.close()
            for process in fleet.processes:
                process.release.set()
                await process.server.stop(drain_s=1)


async def test_a_process_that_fails_is_left_alone_and_the_others_are_asked(start: Any) -> None:
    fleet = await start(4)
    bad = fleet.processes[0]
    bad.error = HandlerFaultError("It broke.")
    failed = 0
    for _ in range(200):
        try:
            await fleet.call()
        except HandlerFaultError:
            failed += 1
    assert failed == 5
    assert fleet.statistics.endpoints == {"well": 3, "returning": 0, "out": 1}


async def test_refusals_and_bad_arguments_leave_everybody_well(start: Any) -> None:
    fleet = await start(2)
    for error in (Closed(), InvalidArgumentsError("Not so.")):
        for process in fleet.processes:
            process.error = error
        for _ in range(50):
            await fleet.fails(type(error))
    assert fleet.statistics.endpoints["well"] == 2
    assert fleet.circuit() == "closed"


async def test_an_operation_that_fails_everywhere_is_not_asked_for_a_while(start: Any) -> None:
    fleet = await start(2)
    for process in fleet.processes:
        process.error = HandlerFaultError("It broke.")
    while fleet.circuit() == "closed":
        await fleet.fails(HandlerFaultError)
    seen = sum(process.seen for process in fleet.processes)
    refused = await fleet.fails(CircuitOpenError)
    assert refused.outcome is Outcome.NOT_DONE
    assert 0 < refused.retry_after_s <= 1.25
    assert sum(process.seen for process in fleet.processes) == seen
    for process in fleet.processes:
        process.error = None
    assert await fleet.call("grind"), "another operation is asked all the same"
    await asyncio.sleep(refused.retry_after_s)
    assert await fleet.call()
    assert fleet.circuit() == "closed"


async def test_while_one_probes_others_are_refused(start: Any) -> None:
    fleet = await start(1)
    process = fleet.processes[0]
    process.error = HandlerFaultError("It broke.")
    while fleet.circuit() == "closed":
        await fleet.fails(HandlerFaultError)
    refused = await fleet.fails(CircuitOpenError)
    await asyncio.sleep(refused.retry_after_s)
    process.release.clear()
    process.begun.clear()
    probe = asyncio.create_task(fleet.call())
    await process.begun.wait()
    assert fleet.circuit() == "half_open"
    await fleet.fails(CircuitOpenError)
    probe.cancel()
    await asyncio.wait([probe])
    process.error = None
    process.release.set()
    assert await fleet.call(), "a probe that was given up leaves its place"


async def test_one_slow_service_does_not_take_all_of_the_caller(start: Any) -> None:
    fleet = await start(2, most=10)
    for process in fleet.processes:
        process.release.clear()
    waiting = [asyncio.create_task(fleet.call()) for _ in range(10)]
    await asyncio.sleep(0)
    refused = await fleet.fails(OverloadedError)
    assert refused.outcome is Outcome.NOT_DONE
    assert "'mill'" in str(refused)
    for process in fleet.processes:
        process.release.set()
    assert len(await asyncio.gather(*waiting)) == 10
    assert await fleet.call()


async def test_what_was_lost_is_sent_to_another_process(start: Any) -> None:
    fleet = await start(3)
    for process in fleet.processes:
        process.release.clear()
    waiting = asyncio.create_task(fleet.call())
    at = await carrying(fleet)
    for process in fleet.processes:
        if process is not at:
            process.release.set()
    at.drop()
    assert await waiting != at.name
    assert fleet.statistics.retries == 1


async def carrying(fleet: Fleet) -> Process:
    """The process that a call is at."""
    while True:
        for process in fleet.processes:
            if _in_progress(process):
                return process
        await asyncio.sleep(0)


async def _make_usual(fleet: Fleet, name: str) -> None:
    """Let it be known how long an operation takes, and nothing of that be on its way any more."""
    for _ in range(120):
        await fleet.call(name)
    seen = [process.seen for process in fleet.processes]
    while any(p.seen == n for p, n in zip(fleet.processes, seen, strict=True)):
        await asyncio.gather(*(fleet.call() for _ in range(4)))
    while any(map(_in_progress, fleet.processes)):
        await asyncio.sleep(0)


def _in_progress(process: Process) -> bool:
    return any(connection.calls for connection in process.server.connections)


async def test_retries_end_with_the_budget(start: Any) -> None:
    fleet = await start(2)
    while fleet.remote._budget.take(monotonic()):
        pass
    for process in fleet.processes:
        process.release.clear()
    waiting = asyncio.create_task(fleet.call())
    (await carrying(fleet)).drop()
    with pytest.raises(PeerLostError) as raised:
        await waiting
    assert raised.value.outcome is Outcome.NOT_DONE
    assert fleet.statistics.unbudgeted == 1


async def test_a_declared_read_that_takes_long_is_asked_of_another_too(start: Any) -> None:
    fleet = await start(2)
    await _make_usual(fleet, "look")
    for process in fleet.processes:
        process.release.clear()
        process.begun.clear()
    before = fleet.statistics.hedges
    waiting = asyncio.create_task(fleet.call("look"))
    for process in fleet.processes:
        await process.begun.wait()
    first, second = fleet.processes
    cancelled = first.cancelled
    second.release.set()
    assert await waiting == second.name
    while first.cancelled == cancelled:
        await asyncio.sleep(0)
    assert fleet.statistics.hedges == before + 1


async def test_what_is_not_declared_so_is_asked_once(start: Any) -> None:
    fleet = await start(2)
    for _ in range(120):
        await fleet.call("ask")
    for process in fleet.processes:
        process.release.clear()
    waiting = asyncio.create_task(fleet.call("ask"))
    await asyncio.sleep(0.1)
    assert sum(_in_progress(process) for process in fleet.processes) == 1
    for process in fleet.processes:
        process.release.set()
    await waiting
    assert fleet.statistics.hedges == 0


async def test_a_hedged_read_whose_first_process_fails_waits_for_the_second(start: Any) -> None:
    fleet = await start(2)
    await _make_usual(fleet, "look")
    for process in fleet.processes:
        process.release.clear()
        process.begun.clear()
    waiting = asyncio.create_task(fleet.call("look"))
    first, second = fleet.processes
    for process in fleet.processes:
        await process.begun.wait()
    first.error = HandlerFaultError("It broke.")
    first.release.set()
    while _in_progress(first):
        await asyncio.sleep(0)
    assert not waiting.done()
    second.release.set()
    assert await waiting == second.name


async def test_the_second_of_a_hedged_read_without_a_limit_has_the_time_that_is_left(
    start: Any,
) -> None:
    fleet = await start(2)
    await _make_usual(fleet, "look")
    for process in fleet.processes:
        process.release.clear()
        process.given_s = None
    waiting = asyncio.create_task(fleet.call("look", timeout_s=None))
    first = await carrying(fleet)
    (second,) = (each for each in fleet.processes if each is not first)
    while second.given_s is None:
        await asyncio.sleep(0)
    whole_s = OPERATIONS["mill.look"].declaration.timeout_s
    assert 0.9 * whole_s < second.given_s < whole_s
    second.release.set()
    assert await waiting == second.name


async def test_a_read_whose_time_is_over_is_asked_of_nobody_else(start: Any) -> None:
    fleet = await start(2)
    await _make_usual(fleet, "look")
    for process in fleet.processes:
        process.release.clear()
    seen = sum(process.seen for process in fleet.processes)
    waiting = asyncio.create_task(fleet.call("look", timeout_s=1e-6))
    await carrying(fleet)
    await asyncio.sleep(0.1)
    assert sum(process.seen for process in fleet.processes) == seen + 1
    waiting.cancel()
    await asyncio.wait([waiting])


async def test_who_gives_up_early_is_no_fault_and_who_waited_long_is(start: Any) -> None:
    fleet = await start(2)
    for process in fleet.processes:
        process.release.clear()
    for _ in range(30):
        waiting = asyncio.create_task(fleet.call(timeout_s=5.0))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    assert fleet.statistics.endpoints["well"] == 2
    assert fleet.circuit() == "closed"
    for process in fleet.processes:
        process.error = DeadlineExceededError("Too late.")
        process.release.set()
    while fleet.circuit() == "closed":
        with pytest.raises(TenfoldError):
            await fleet.call(timeout_s=5.0)
    assert fleet.statistics.endpoints["out"] == 1, "at most half of them"


async def test_who_answers_mostly_with_refusals_and_seldom_with_a_fault_is_not_left_alone(
    start: Any,
) -> None:
    """Faults with any other word between them are not in a row."""
    fleet = await start(2)
    process = fleet.processes[0]
    fleet.processes[1].error = Closed()
    for error in (Closed(), InvalidArgumentsError("Not so.")):
        for _ in range(MOST_FAULTS_IN_A_ROW + 1):
            for said, times in ((HandlerFaultError("It broke."), 1), (error, 19)):
                seen, process.error = process.seen, said
                while process.seen < seen + times:
                    with pytest.raises((Refusal, TenfoldError)):
                        await fleet.call()
    assert fleet.statistics.endpoints["well"] == 2


async def test_a_deadline_that_is_no_fault_ends_no_row_of_faults(start: Any) -> None:
    """It tells nothing: nobody knows yet whether the call could be done in that time."""
    fleet = await start(2)
    process = fleet.processes[0]
    fleet.processes[1].error = InvalidArgumentsError("Not so.")
    for _ in range(MOST_FAULTS_IN_A_ROW):
        assert fleet.statistics.endpoints["well"] == 2
        for said in (DeadlineExceededError("Late."), HandlerFaultError("It broke.")):
            seen, process.error = process.seen, said
            while process.seen == seen:
                with pytest.raises(TenfoldError):
                    await fleet.call("look", timeout_s=0.5)
    assert fleet.statistics.endpoints["out"] == 1


async def test_parts_of_a_millisecond_are_told_apart(start: Any) -> None:
    fleet = await start(1)
    for _ in range(200):
        await fleet.call()
    (record,) = fleet.remote._records.values()
    assert record.latencies.usual_s > 2 * LEAST_S


async def test_a_connection_that_is_just_being_lost_is_not_asked_until_nobody_is_left(
    start: Any,
) -> None:
    fleet = await start(1)
    for link in fleet.remote._connections._places:
        assert link.transport is not None
        link.transport.abort()
    assert await fleet.call() == "p0"
