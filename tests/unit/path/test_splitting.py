"""Calls of a module that two sides host: where each goes, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import pytest

from tenfold import Contract, Outcome, Refusal, command, query
from tenfold.contracts.contract import read_contract
from tenfold.contracts.envelope import OPERATOR, TraceContext
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    NotPermittedError,
    TenfoldError,
)
from tenfold.path.entry import Incoming, Reply
from tenfold.path.forwarding import reply_of
from tenfold.path.kept import Shown
from tenfold.path.splitting import SplitCounts, SplitPeer
from tenfold.ports.frames import PeerLostError
from tenfold.ports.peers import Outgoing, Returned

pytestmark = pytest.mark.anyio
TRACE = TraceContext(trace_id="1" * 32, span_id="2" * 16)


class Full(Refusal):
    """It is full."""


class Mill(Contract, Protocol):
    """A mill."""

    @query(who="internal", timeout_s=4)
    async def look(self) -> str:
        """Who answers."""
        ...

    @command(who="internal", raises=[Full])
    async def grind(self) -> str:
        """Who did it."""
        ...


SPECS = read_contract(Mill).operations


class Service:
    """The service's side."""

    def __init__(self) -> None:
        self.seen: list[Outgoing] = []
        self.error: Exception | None = None
        self.takes_s = 0.0

    async def call(self, outgoing: Outgoing) -> Returned:
        self.seen.append(outgoing)
        await asyncio.sleep(self.takes_s)
        if self.error is not None:
            raise self.error
        return Returned(value="service", position="s:1")


class Here:
    """This process's side."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.error: Exception | None = None
        self.kept: Shown | None = None

    async def call(self, incoming: Incoming) -> Reply:
        self.seen.append(incoming)
        if self.error is not None:
            raise self.error
        return Reply(
            value="here", trace=TRACE, position="h:1", replayed=True, settled=True, kept=self.kept
        )


def sides(share: float, chance: float = 0.5) -> tuple[SplitPeer, Service, Here]:
    service, here = Service(), Here()
    split = SplitPeer(service, share, chance=lambda: chance)
    split.open(here)
    return split, service, here


def outgoing(name: str = "look", **more: object) -> Outgoing:
    spec = SPECS[name]
    found = Outgoing(operation=spec, module="mill", arguments=spec.arguments())
    return msgspec.structs.replace(found, **more)


@pytest.mark.parametrize(
    ("share", "chance", "who"),
    [
        (0.0, 0.0, "here"),
        (0.25, 0.25, "here"),
        (0.25, 0.2499, "service"),
        (1.0, 0.9999, "service"),
    ],
)
async def test_chance_says_who_answers(share: float, chance: float, who: str) -> None:
    split, _, _ = sides(share, chance)
    assert (await split.call(outgoing())).value == who
    assert split.counts == SplitCounts(**{who: 1})


async def test_what_is_known_of_a_call_and_of_its_answer_stays() -> None:
    split, _, here = sides(0.0)
    call = outgoing(
        "grind",
        principal=OPERATOR,
        tenant="acme",
        key="k",
        timeout_s=2.5,
        trace=TRACE,
        position="p:1",
        wait_s=1.5,
        outside=True,
        decision=True,
        queued=True,
    )
    returned = await split.call(call)
    assert returned == Returned(value="here", position="h:1", replayed=True, settled=True)
    (seen,) = here.seen
    assert seen == Incoming(
        operation=call.operation,
        arguments=call.arguments,
        principal=OPERATOR,
        tenant="acme",
        internal=False,
        counted=True,
        idempotency_key="k",
        timeout_s=2.5,
        trace=TRACE,
        position="p:1",
        wait_s=1.5,
        decision=True,
        queued=True,
    )


async def test_what_the_edge_is_told_of_a_kept_answer_comes_through() -> None:
    split, _, here = sides(0.0)
    here.kept = Shown(target="mill.look", age_s=1.5, left_s=2.5, tags=("mill", "all"))
    returned = await split.call(outgoing())
    assert reply_of(returned, TRACE, None).kept == here.kept


async def test_the_service_has_half_of_the_time_and_the_rest_is_for_here() -> None:
    split, service, here = sides(1.0)
    service.error = PeerLostError("It ended.", outcome=Outcome.MAYBE_DONE)
    assert (await split.call(outgoing())).value == "here"
    assert service.seen[0].timeout_s == 2.0
    service.takes_s = 0.05
    await split.call(outgoing())
    assert 2.0 <= here.seen[1].timeout_s < 3.99, "what the service has used is gone"
    service.takes_s = 0.0
    await split.call(outgoing(timeout_s=1.0))
    assert service.seen[2].timeout_s == 0.5
    assert split.counts == SplitCounts(service=3, service_faults=3, here=3)


@pytest.mark.parametrize(
    "error",
    [
        HandlerFaultError("It failed."),
        DeadlineExceededError("Too late.", outcome=Outcome.MAYBE_DONE),
        PeerLostError("It ended.", outcome=Outcome.MAYBE_DONE),
    ],
)
async def test_a_command_with_a_key_is_done_here_under_it(error: TenfoldError) -> None:
    split, service, here = sides(1.0)
    service.error = error
    assert (await split.call(outgoing("grind", key="k"))).value == "here"
    assert here.seen[0].idempotency_key == "k"


async def test_a_command_without_one_only_where_nothing_was_done() -> None:
    split, service, here = sides(1.0)
    service.error = PeerLostError("It ended.", outcome=Outcome.MAYBE_DONE)
    with pytest.raises(PeerLostError):
        await split.call(outgoing("grind"))
    assert not here.seen
    service.error = PeerLostError("It ended.", outcome=Outcome.NOT_DONE)
    assert (await split.call(outgoing("grind"))).value == "here"


async def test_nothing_is_done_here_when_the_time_is_up() -> None:
    split, service, here = sides(1.0)
    service.error = DeadlineExceededError("Too late.")
    with pytest.raises(DeadlineExceededError):
        await split.call(outgoing(timeout_s=1e-9))
    assert not here.seen


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_an_expected_no_is_an_answer_and_so_is_one_to_the_caller(share: float) -> None:
    split, service, here = sides(share)
    for error in (Full(), NotPermittedError("Not you.")):
        service.error = here.error = error
        with pytest.raises(type(error)):
            await split.call(outgoing("grind", key="k"))
    assert split.counts == (SplitCounts(service=2) if share else SplitCounts(here=2))
    assert len(service.seen) + len(here.seen) == 2


async def test_what_fails_here_counts_here() -> None:
    split, _, here = sides(0.0)
    here.error = HandlerFaultError("It failed.")
    with pytest.raises(HandlerFaultError):
        await split.call(outgoing())
    assert split.counts == SplitCounts(here=1, here_faults=1)


async def test_who_gives_up_is_not_answered_here() -> None:
    split, service, here = sides(1.0)
    service.error = asyncio.CancelledError()  # type: ignore[assignment]
    with pytest.raises(asyncio.CancelledError):
        await split.call(outgoing())
    assert not here.seen
    assert split.counts == SplitCounts()
