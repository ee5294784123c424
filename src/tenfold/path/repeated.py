"""Repeated: every message is delivered as if processes were killed, and then once more.

Three deliveries take the place of one. The first is thrown away just before its commit, as
if its process had been killed there; what its handler had called by then stays done. The
second is carried to its commit. The third is a duplicate: a command is answered from its
stored reply, and queued work finds its message in the inbox. A question is asked twice.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator, Mapping, MutableMapping
from contextlib import suppress
from contextvars import Context
from typing import Any

import msgspec

from tenfold.contracts.operations import Kind
from tenfold.path.batches import Batches
from tenfold.path.delivery import Delivery
from tenfold.path.entry import Entry, Incoming, Reply
from tenfold.path.module import ModuleRuntime, Resources, new_trace
from tenfold.path.repeats import (
    RUN,
    Asked,
    Findings,
    Run,
    ThrownAwayError,
    decide_answers,
    decide_repeats,
)
from tenfold.ports.clock import Ids
from tenfold.ports.peers import Outgoing, Peer, Returned
from tenfold.ports.records import Claimed, OutboxRow
from tenfold.ports.unit import Unit, UnitResult, Units

__all__ = ["RepeatedBatches", "RepeatedDelivery", "RepeatedEntry", "RepeatingPeer", "repeat_units"]


def repeat_units(resources: Resources) -> None:
    """Let the units of work of one module be thrown away where a delivery says so."""
    resources.units = _RepeatedUnits(resources.units)


class RepeatedDelivery(Delivery):
    """Runs the claimed entries of one module's queue, each three times."""

    def __init__(self, module: ModuleRuntime, owners: dict[str, Any], findings: Findings) -> None:
        super().__init__(module, owners)
        self._findings = findings

    def begin(self, entry: Claimed, fence: int) -> Coroutine[Any, Any, None]:
        """Begin one entry. See `Delivery.begin`.

        Each of its deliveries has the handler's whole time limit.
        """
        return self._three_times(entry, fence)

    async def _three_times(self, entry: Claimed, fence: int) -> None:
        cut, kept, again = Run(cut=True), Run(), Run()
        ended = False
        try:
            # What it fails with, the one that counts fails with too; or it has passed.
            with suppress(Exception):
                await self._once(entry, fence, cut)
            await self._once(entry, fence, kept)
            try:
                await self._once(entry, fence, again)
            except Exception as error:
                again.error = error
            ended = True
        finally:
            compiled = self._handlers.get(entry.handler)
            if compiled is not None:
                runs = [cut, kept, again]
                self._findings.add(
                    decide_repeats(compiled.target, compiled.kind, runs, duplicate=ended)
                )

    async def _once(self, entry: Claimed, fence: int, run: Run) -> None:
        token = RUN.set(run)
        try:
            rest = super().begin(entry, fence)
            if rest is not None:
                await rest
        finally:
            RUN.reset(token)


class RepeatedBatches(Batches):
    """Handles each batch of one subscription three times. Its place lets one of them pass.

    Nothing is found in them: a handler of batches calls no commands, and whatever it does is
    committed with its place, or not at all.
    """

    async def _handle(self, batch: list[OutboxRow], after: int, started: float) -> None:
        with suppress(Exception):
            await self._once(batch, after, Run(cut=True))
        await self._once(batch, after, Run())
        with suppress(Exception):  # such as LeaseLostError: the place is past it
            await self._once(batch, after, Run())

    async def _once(self, batch: list[OutboxRow], after: int, run: Run) -> None:
        token = RUN.set(run)
        try:
            await super()._handle(batch, after, time.monotonic())
        finally:
            RUN.reset(token)


class RepeatingPeer:
    """Delivers every call to another peer more than once. Implements `Peer`."""

    def __init__(
        self, peer: Peer, runs: MutableMapping[str, Run], findings: Findings, ids: Ids
    ) -> None:
        """Nothing is called yet.

        Args:
            runs: what is on its way, by its span, for a `RepeatedEntry` at the other end.
        """
        self._peer = peer
        self._runs = runs
        self._findings = findings
        self._ids = ids

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call there, more than once. See `Peer.call`.

        All deliveries share the time of the call. Where the one that is to commit fails, the
        next one's answer counts.
        """
        if outgoing.operation.kind is Kind.QUERY:
            return await self._ask_twice(outgoing)
        asked = Asked.of(outgoing)
        caller = RUN.get(None)
        if caller is not None:
            caller.asked.append(asked)
        runs = [Run(cut=True), Run(), Run()]
        try:
            returned = await self._three_times(outgoing, runs)
        finally:
            self._findings.add(decide_repeats(asked.target, Kind.COMMAND, runs, duplicate=False))
        asked.done = not returned.replayed
        return returned

    async def _ask_twice(self, outgoing: Outgoing) -> Returned:
        try:
            first = await self._peer.call(outgoing)
        except Exception:
            return await self._peer.call(outgoing)
        # Between the two, what is asked about may have changed, or gone.
        with suppress(Exception):
            await self._peer.call(outgoing)
        return first

    async def _three_times(self, outgoing: Outgoing, runs: list[Run]) -> Returned:
        cut, kept, again = runs
        # Each would wait for the outcome; one is to, in the end.
        at_once = msgspec.structs.replace(outgoing, wait_s=None)
        with suppress(Exception):
            await self._deliver(at_once, cut)
        try:
            first = await self._deliver(at_once, kept)
        except Exception:
            return await self._deliver(outgoing, again)
        try:
            second: Returned | Exception = await self._deliver(at_once, again)
        except Exception as error:
            second = error
        self._findings.add(decide_answers(outgoing, first, second))
        if outgoing.wait_s is None:
            return first
        with suppress(Exception):
            waited = await self._deliver(outgoing, Run())
            return msgspec.structs.replace(waited, replayed=first.replayed)
        return first

    async def _deliver(self, outgoing: Outgoing, run: Run) -> Returned:
        trace = new_trace(self._ids, outgoing.trace)
        self._runs[trace.span_id] = run
        try:
            return await self._peer.call(msgspec.structs.replace(outgoing, trace=trace))
        finally:
            del self._runs[trace.span_id]


class RepeatedEntry:
    """The way in for what a `RepeatingPeer` delivers. Implements `Entry`."""

    def __init__(self, entry: Entry, runs: Mapping[str, Run]) -> None:
        self._entry = entry
        self._runs = runs

    async def call(self, incoming: Incoming) -> Reply:
        """Carry one delivery of a call along the path. See `Entry.call`."""
        run = None if incoming.trace is None else self._runs.get(incoming.trace.span_id)
        if run is None:
            return await self._entry.call(incoming)
        token = RUN.set(run)
        try:
            return await self._entry.call(incoming)
        finally:
            RUN.reset(token)


class _RepeatedUnits:
    """Units of work, of which those of a delivery that is cut end before the commit."""

    def __init__(self, units: Units) -> None:
        self._units = units

    async def run(
        self, unit: Unit, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> UnitResult:
        """Carry one unit of work, or all of it but its commit. See `Units.run`."""
        run = context.get(RUN)
        if run is not None and run.cut:
            if handler is None:
                raise _thrown_away()
            return await self._units.run(unit, _CutShort(handler), context, value)
        result = await self._units.run(unit, handler, context, value)
        if run is not None and not result.duplicate and result.replay is None:
            run.committed = True
        return result


class _CutShort(Coroutine[Any, Any, Any]):
    """A handler that a store steps to its end, and that then fails."""

    def __init__(self, handler: Coroutine[Any, Any, Any]) -> None:
        self._handler = handler

    def __await__(self) -> Generator[Any, Any, Any]:
        raise TypeError("It is stepped, and not awaited.")

    def send(self, value: Any) -> Any:
        """Take a step."""
        try:
            return self._handler.send(value)
        except StopIteration:
            raise _thrown_away() from None

    def throw(self, *error: Any) -> Any:
        """Tell the handler of an error."""
        return self._handler.throw(*error)

    def close(self) -> None:
        """Give the handler up."""
        self._handler.close()


def _thrown_away() -> ThrownAwayError:
    return ThrownAwayError(
        "This delivery was ended before its commit, as if its process had been killed there. "
        "Nothing of its own unit of work was committed. The next delivery follows at once."
    )
