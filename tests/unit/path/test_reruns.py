"""A handler whose unit of work was lost is begun again, and no commit is told as undone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextvars import Context
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tenfold.contracts.envelope import OPERATOR, Envelope, TraceContext
from tenfold.contracts.errors import LeaseLostError, Outcome, StoreUnavailableError
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.path.handle import RERUNS, handle_in_unit
from tenfold.path.stops import Stops
from tenfold.path.turns import Turns
from tenfold.ports.clock import RandomIds
from tenfold.ports.stepping import close_handler
from tenfold.ports.unit import OPEN, Message, Unit, UnitLostError, UnitResult

pytestmark = pytest.mark.anyio

LOST = UnitLostError("It was lost.")
IN_DOUBT = UnitLostError("It was lost at the commit.", outcome=Outcome.MAYBE_DONE)


class Losing:
    """A store that ends its units of work as it is told, one after the other; then they commit."""

    def __init__(self, *ends: Exception) -> None:
        self.ends = list(ends)
        self.units: list[bool] = []
        self.open = self.most_open = 0

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        self.units.append(unit.sealed)
        close_handler(handler, context)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await asyncio.sleep(0)
        finally:
            self.open -= 1
        if self.ends:
            raise self.ends.pop(0)
        return UnitResult(value=value, position=1)


async def carry(store: Losing, *, host: Any = None, timeout_s: float = 20.0) -> UnitResult:
    envelope = Envelope(
        id="m",
        kind=Kind.COMMAND,
        target="shed.tidy",
        payload=None,
        principal=OPERATOR,
        tenant="main",
        trace=TraceContext(trace_id="1" * 32, span_id="1" * 16),
        at=datetime.now(UTC),
    )
    message = Message(envelope, Kind.COMMAND, "shed", time.monotonic() + timeout_s, None)
    message.host = host

    async def handler() -> None:
        await OPEN

    return await handle_in_unit(
        message, lambda: Unit("m", "main", message.deadline), handler, store, RandomIds(), Stops()
    )


async def test_a_lost_unit_is_begun_again() -> None:
    store = Losing(LOST, LOST)
    assert (await carry(store)).position == 1
    assert store.units == [False, False, False]


async def test_who_always_loses_is_told_that_nothing_was_done() -> None:
    store = Losing(*[LOST] * RERUNS)
    with pytest.raises(StoreUnavailableError, match="Nothing was committed") as caught:
        await carry(store)
    assert caught.value.outcome is Outcome.NOT_DONE
    assert len(store.units) == RERUNS


async def test_nothing_is_begun_again_when_there_is_no_time_left() -> None:
    store = Losing(*[LOST] * RERUNS)
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        await carry(store, timeout_s=0.1)
    assert time.monotonic() - began < 1
    assert 1 < len(store.units) < RERUNS


@pytest.mark.parametrize(
    "then",
    [LeaseLostError("gone"), StoreUnavailableError("away"), Refusal(), ValueError("fault"), None],
)
async def test_a_commit_that_was_in_doubt_stays_so_whatever_comes_then(
    then: Exception | None,
) -> None:
    store = Losing(IN_DOUBT, *([then] if then else [LOST] * RERUNS))
    with pytest.raises((LeaseLostError, StoreUnavailableError)) as caught:
        await carry(store)
    assert caught.value.outcome is Outcome.MAYBE_DONE
    # A deadline that passes meanwhile is told as one at the commit.
    assert store.units[1:] == [True] * len(store.units[1:])


async def test_what_is_begun_again_takes_turns() -> None:
    first_ones = 12
    store = Losing(*[LOST] * first_ones)
    host = SimpleNamespace(reruns=Turns())
    await asyncio.gather(*(carry(store, host=host) for _ in range(first_ones)))
    assert store.most_open == first_ones, "the first time they wait for nobody"
    store.ends = [LOST] * 2 * first_ones
    async with host.reruns.take("shed.tidy"):
        carrying = [asyncio.ensure_future(carry(store, host=host)) for _ in range(first_ones)]
        while len(store.ends) > first_ones:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert len(store.ends) == first_ones, "nobody is begun again out of turn"
        store.most_open = 0
    await asyncio.gather(*carrying)
    assert store.most_open == 1


async def test_who_is_cancelled_while_waiting_for_a_turn_leaves_no_handler_open() -> None:
    store = Losing(LOST)
    host = SimpleNamespace(reruns=Turns())
    async with host.reruns.take("shed.tidy"):
        carrying = asyncio.ensure_future(carry(store, host=host))
        while store.ends:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
    assert len(store.units) == 1
