"""Connections that are made anew, and what is remembered of processes that none leads to."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, NoReturn

import msgspec
import pytest

from tenfold.adapters.frames.endpoints import Endpoint
from tenfold.adapters.frames.records import OperationRecord
from tenfold.contracts.errors import HandlerFaultError
from tenfold.ports.peers import Outgoing
from tests.unit.frames.test_containment import OPERATIONS, Fleet, start

__all__ = ["start"]  # the fixture
pytestmark = pytest.mark.anyio


def age(fleet: Fleet, *names: str) -> None:
    """Let the connections to some processes have been used long enough."""
    for link in fleet.remote._connections._places:
        if link.hello.process in names:
            link.retires_s = 0.0


async def eject(fleet: Fleet) -> None:
    """Let the first process fail until it is left alone."""
    fleet.processes[0].error = HandlerFaultError("It broke.")
    while not fleet.statistics.endpoints["out"]:
        await asyncio.gather(fleet.call(), return_exceptions=True)


async def test_after_an_idle_minute_all_processes_are_asked_as_before(start: Any) -> None:
    fleet = await start(4)
    names = {process.name for process in fleet.processes}
    age(fleet, *names)
    old = set(fleet.remote._connections._places)
    asked = set()
    for _ in range(200):
        asked.add(await fleet.call())
        assert sum(fleet.statistics.endpoints.values()) == 4
    assert asked == names
    while old & set(fleet.remote._connections._places):
        await fleet.call()
    assert len(fleet.remote._connections._places) == 4


async def test_a_connection_is_used_while_another_cannot_be_made(start: Any) -> None:
    fleet = await start(1)
    (process,) = fleet.processes
    process.path.unlink()
    age(fleet, process.name)
    for _ in range(20):
        assert await fleet.call() == process.name
        await asyncio.sleep(0.001)


async def test_one_that_is_out_is_not_asked_because_the_other_s_connection_is_old(
    start: Any,
) -> None:
    fleet = await start(2)
    await eject(fleet)
    bad, well = fleet.processes
    seen = bad.seen
    age(fleet, well.name)
    for _ in range(20):
        assert await fleet.call() == well.name
    assert bad.seen == seen


async def test_one_that_is_out_stays_so_though_its_connection_is_lost(start: Any) -> None:
    fleet = await start(2)
    await eject(fleet)
    bad, well = fleet.processes
    seen = bad.seen
    bad.drop()
    while fleet.statistics.endpoints["out"]:
        await asyncio.sleep(0)
    while sum(fleet.statistics.endpoints.values()) < 2:
        await asyncio.sleep(0.001)
    assert fleet.statistics.endpoints == {"well": 1, "returning": 0, "out": 1}
    for _ in range(20):
        assert await fleet.call() == well.name
    assert bad.seen == seen


async def test_who_does_not_come_back_is_forgotten(start: Any) -> None:
    fleet = await start(3)
    connections = fleet.remote._connections
    for endpoint in connections.endpoints:
        endpoint.standing.answered(monotonic(), 2.0)
    for left, process in enumerate(fleet.processes[:2], 1):
        await process.server.stop(drain_s=0)
        while len(connections.endpoints) > 3 - left:
            await asyncio.sleep(0)
        (parted,) = connections._parted.values()
        parted.seen_s -= 3600


async def test_of_a_place_that_is_left_the_old_connections_go_too_but_no_lost_ones(
    start: Any,
) -> None:
    fleet = await start(2)
    kept, lost = fleet.processes
    for process in fleet.processes:
        process.path.unlink()  # nothing takes the place of what is old
    age(fleet, kept.name, lost.name)
    connections = fleet.remote._connections
    while any(link.retires_s == 0.0 for link in connections._places):
        await fleet.call()
    lost.drop()
    while len(connections.endpoints) == 2:
        await asyncio.sleep(0)
    assert connections._sites[lost.name].leave() == []
    (link,) = connections._sites[kept.name].leave()
    assert link.hello.process == kept.name


class Unwalked(list[Endpoint]):
    """Processes at which nobody may look one after the other."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("a call looks at all processes")


async def test_a_call_looks_at_two_processes_and_not_at_all(start: Any) -> None:
    fleet = await start(8)
    connections = fleet.remote._connections
    connections.endpoints = Unwalked(connections.endpoints)
    for _ in range(50):
        await fleet.call()


async def test_of_many_none_that_is_out_or_was_just_asked_is_asked(start: Any) -> None:
    fleet = await start(5)
    connections = fleet.remote._connections
    now_s = monotonic()
    *well, one, other = connections.endpoints
    for each in (one, other):
        each.standing.eject(now_s, 60.0)
    record = OperationRecord(OPERATIONS["mill.ask"], "mill")
    for last in well:
        others = {each for each in well if each is not last}
        last.standing.slowness = 1.0
        for each in others:  # whom it costs more to ask
            each.standing.slowness, each.standing.seen_s = 2.0, now_s
        assert {connections.choose(now_s, record, last) for _ in range(200)} == others


class Counted:
    """A type `list[str]` that counts how often it is read."""

    __args__ = (str,)

    def __init__(self) -> None:
        self.reads = 0

    @property
    def __origin__(self) -> type[list[Any]]:
        self.reads += 1
        return list


@pytest.mark.parametrize("through", ["service", "link"])
async def test_the_type_of_a_result_is_read_once(start: Any, through: str) -> None:
    fleet = await start(1)
    fleet.processes[0].name = ["a"]
    counted = Counted()
    spec = msgspec.structs.replace(OPERATIONS["mill.ask"], result=counted)
    outgoing = Outgoing(operation=spec, arguments=spec.arguments(), module="mill")
    (link,) = fleet.remote._connections._places
    caller = fleet.remote if through == "service" else link
    for _ in range(5):
        assert (await caller.call(outgoing)).value == ["a"]
    assert counted.reads == 1
