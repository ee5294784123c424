"""A service of several processes, as one that calls it has it."""

from __future__ import annotations

import asyncio
import logging
import random
from time import monotonic
from typing import Final

import msgspec

from tenfold.adapters.frames.answers import Answer, decide_fault, decide_given_up, returned
from tenfold.adapters.frames.balancing import decide_ejection
from tenfold.adapters.frames.breaker import BreakerState
from tenfold.adapters.frames.budget import RetryBudget
from tenfold.adapters.frames.connections import Connections
from tenfold.adapters.frames.endpoints import Directory, Endpoint
from tenfold.adapters.frames.records import OperationRecord
from tenfold.contracts.errors import DeadlineExceededError, Outcome, OverloadedError, TenfoldError
from tenfold.ports.frames import (
    Answered,
    CircuitOpenError,
    Failed,
    PeerLostError,
    PeerUnavailableError,
    Refused,
)
from tenfold.ports.peers import Outgoing, Returned, ServiceStatistics

__all__ = ["MOST_OUTSTANDING", "RemoteService"]

MOST_OUTSTANDING: Final = 500
_TRIES: Final = 3
"""Times that one call is sent, at the most, where a process was lost over it."""
_CLOSED: Final = BreakerState.CLOSED
_log = logging.getLogger("tenfold.frames")


class RemoteService:
    """The processes of one service, over a few connections to each. Implements `Peer`.

    Which process is asked, and which is left alone for a while: `balancing`. Where one was
    lost over a call, another is asked, within the `budget`: nothing was done, or it was a
    query, or a command whose key lets it happen once. An operation that fails everywhere is
    not asked for a while: `breaker`. A query that is declared so is asked of a second process
    where the first takes longer than usual.
    """

    def __init__(self, name: str, directory: Directory, *, most: int = MOST_OUTSTANDING) -> None:
        """Nothing is connected before the first call.

        Args:
            name: of the service, for messages.
            directory: where its processes are.
            most: calls of this process that wait for the service at once; one more is refused.
        """
        self._name = name
        self._most = most
        self._records: dict[int, OperationRecord] = {}
        """By the identity of the specification, which the record holds."""
        self._budget = RetryBudget()
        self._retries = self._hedges = self._unbudgeted = 0
        self._random = random.Random()
        self._connections = Connections(name, directory, self._random.random)

    async def call(self, outgoing: Outgoing) -> Returned:
        """Carry one call to a process of the service. See `Peer.call`.

        Raises: besides what `FrameLink.call` raises, PeerUnavailableError where no process
            answers in the time of the call (NOT_DONE); DeadlineExceededError;
            CircuitOpenError and OverloadedError where it was not sent (NOT_DONE).
        """
        spec = outgoing.operation
        record = self._records.get(id(spec))
        if record is None:
            record = self._records[id(spec)] = OperationRecord(spec, outgoing.module)
        now_s = monotonic()
        refused = self._decide_refusal(record, now_s)
        if refused is not None:
            record.count_error(refused)
            raise refused
        breaker = record.breaker
        probe = breaker.state is not _CLOSED
        given_s = outgoing.timeout_s or spec.declaration.timeout_s
        self._budget.note(now_s)
        self._connections.outstanding += 1
        fault: bool | None = None
        try:
            answer, fault, lost = await self._carry(outgoing, record, now_s, given_s)
        except (PeerLostError, DeadlineExceededError) as error:
            fault = True
            record.count_error(error)
            raise
        except TenfoldError as error:  # nobody can be reached: who dials finds out when that ends
            record.count_error(error)
            raise
        except asyncio.CancelledError:
            record.outcomes["cancelled"] += 1
            took_s = monotonic() - now_s - _settles_s(outgoing)
            if decide_given_up(took_s, given_s, record.latencies.usual_s):
                fault = True
            raise
        finally:
            self._connections.outstanding -= 1
            if fault is None:
                breaker.forget(monotonic(), probe=probe)
            else:
                breaker.note(monotonic(), fault, self._random.random(), probe=probe)
        return self._returned(record, answer, lost)

    def statistics(self) -> ServiceStatistics:
        """What has been seen of it, as of now."""
        return ServiceStatistics(
            service=self._name,
            outstanding=self._connections.outstanding,
            endpoints=self._connections.count(monotonic()),
            retries=self._retries,
            hedges=self._hedges,
            unbudgeted=self._unbudgeted,
            operations=tuple(record.statistics() for record in self._records.values()),
        )

    async def close(self) -> None:
        """End all connections; what is in progress on them is cancelled there."""
        await self._connections.close()

    def _decide_refusal(self, record: OperationRecord, now_s: float) -> TenfoldError | None:
        """Why a call is not even sent, if so."""
        if self._connections.outstanding >= self._most:
            return OverloadedError(
                f"{self._most:,} calls of this process wait for the service {self._name!r}, and "
                f"{record.target} was not sent. Send it again when some have ended."
            )
        open_s = record.breaker.refuses_for(now_s)
        if open_s:
            return CircuitOpenError(
                f"Most calls of {record.target} to the service {self._name!r} failed of late. This "
                f"one was not sent, and nothing was done. Send it again in {open_s:.1f} s; see the "
                "log of the service for why.",
                retry_after_s=open_s,
            )
        return None

    def _returned(self, record: OperationRecord, answer: Answer, lost: bool) -> Returned:
        """What the answer means, where a process may have been lost before it."""
        outcomes = record.outcomes
        if isinstance(answer, Answered):
            outcomes["answered"] += 1
        else:
            outcomes["refused" if isinstance(answer, Refused) else answer.code] += 1
        try:
            return returned(record.spec, answer, record.decode)
        except TenfoldError as error:
            if lost and error.outcome is Outcome.NOT_DONE:
                error.outcome = Outcome.MAYBE_DONE  # the one that was lost may have done it
            raise

    async def _carry(
        self, outgoing: Outgoing, record: OperationRecord, now_s: float, given_s: float
    ) -> tuple[Answer, bool, bool]:
        """Send it, again where a process is lost over it and it may be.

        Returns: the answer, whether it is a fault, and whether a process was lost.
        """
        until_s = now_s + given_s + (outgoing.wait_s or 0.0)
        connections = self._connections
        lost = False
        last: Endpoint | None = None
        for left in reversed(range(_TRIES)):
            sent, endpoint = outgoing, connections.choose(now_s, record, last)
            if endpoint is None or last is not None:
                endpoint = endpoint or await connections.wait(until_s, record, lost=lost)
                now_s = monotonic()
                left_s = until_s - now_s
                if left_s <= 0:
                    break
                sent = msgspec.structs.replace(outgoing, timeout_s=min(given_s, left_s))
            try:
                if record.hedges and (after_s := record.hedge_after_s) is not None:
                    return *await self._hedge(endpoint, sent, record, after_s), lost
                return *await self._try(endpoint, sent, record, now_s), lost
            except PeerUnavailableError as error:  # nothing was sent, which costs nobody anything
                if left:
                    last = endpoint
                    continue
                if lost:
                    error.outcome = Outcome.MAYBE_DONE
                raise
            except PeerLostError as error:
                # Queued work is begun again as a whole, under the same key.
                again = outgoing.key is not None and not outgoing.queued
                if not left or not (again or error.outcome is Outcome.NOT_DONE):
                    raise
                if not self._may_repeat():
                    raise
                self._retries += 1
                lost = lost or error.outcome is not Outcome.NOT_DONE
                last = endpoint
        raise self._late(record, lost)

    async def _try(
        self, endpoint: Endpoint, outgoing: Outgoing, record: OperationRecord, began_s: float
    ) -> tuple[Answer, bool]:
        """Ask one process, and note how it does; whether its answer is a fault.

        What may wait there for an outcome tells nothing of how fast it works, and is late only
        when the time for that has passed too.
        """
        standing, latencies = endpoint.standing, record.latencies
        settles_s = _settles_s(outgoing)
        number = standing.begin(began_s, latencies, settles_s)
        given_s = outgoing.timeout_s or record.spec.declaration.timeout_s
        try:
            answer = await endpoint.link().ask(outgoing)
        except PeerLostError:
            self._faulted(endpoint)
            raise
        except asyncio.CancelledError:
            now_s = monotonic()
            took_s = now_s - began_s - settles_s
            standing.waited_for(now_s, took_s / latencies.usual_s)
            if decide_given_up(took_s, given_s, latencies.usual_s):
                self._faulted(endpoint)
            raise
        finally:
            standing.end(number)
        now_s = monotonic()
        fault = decide_fault(answer, given_s, latencies.usual_s)
        if fault:
            self._faulted(endpoint)
        elif type(answer) is Answered and not settles_s:
            latencies.note(now_s - began_s)
            standing.answered(now_s, (now_s - began_s) / latencies.usual_s)
        elif type(answer) is not Failed or answer.code != DeadlineExceededError.code:
            standing.did_not_fail(now_s)
        return answer, fault

    async def _hedge(
        self, endpoint: Endpoint, outgoing: Outgoing, record: OperationRecord, after_s: float
    ) -> tuple[Answer, bool]:
        """Ask a second process where the first has not answered in time; the first answer counts.

        (J. Dean and L. A. Barroso, "The Tail at Scale", 2013.) A fault is no answer while the
        other may still give one. Who is not needed any more is told.
        """
        loop = asyncio.get_running_loop()
        first = loop.create_task(self._try(endpoint, outgoing, record, monotonic()))
        asked = [first]
        try:
            done, _ = await asyncio.wait(asked, timeout=after_s)
            left_s = (outgoing.timeout_s or record.spec.declaration.timeout_s) - after_s
            ask = not done and left_s > 0
            other = self._connections.choose(monotonic(), record, endpoint) if ask else None
            if other is not None and other is not endpoint and self._may_repeat():
                self._hedges += 1
                sent = msgspec.structs.replace(outgoing, timeout_s=left_s)
                asked.append(loop.create_task(self._try(other, sent, record, monotonic())))
            waiting = set(asked)
            while len(waiting) > 1:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task.exception() is None and not task.result()[1]:
                        return task.result()
            return await (waiting.pop() if waiting else first)
        finally:
            for task in asked:
                task.cancel()
                task.add_done_callback(_hear)

    def _may_repeat(self) -> bool:
        """Whether the budget has one more; if so it is taken."""
        if self._budget.take(monotonic()):
            return True
        self._unbudgeted += 1
        return False

    def _faulted(self, endpoint: Endpoint) -> None:
        """Note it, and leave the process alone for a while where that is due."""
        standing = endpoint.standing
        standing.faulted()
        now_s = monotonic()
        others = [each.standing for each in self._connections.endpoints if each is not endpoint]
        seconds = decide_ejection(standing, others, now_s)
        if seconds is not None:
            standing.eject(now_s, seconds)
            _log.warning(
                "A process of the service %r fails and is left alone for %g s.", self._name, seconds
            )

    def _late(self, record: OperationRecord, lost: bool) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"The time for {record.target} passed while processes of the service "
            f"{self._name!r} were lost. " + ("It may be done." if lost else "Nothing was done."),
            outcome=Outcome.MAYBE_DONE if lost else Outcome.NOT_DONE,
        )


def _settles_s(outgoing: Outgoing) -> float:
    """How long the process that is asked may wait for the outcome of a command, once it is done."""
    return outgoing.wait_s or 0.0 if outgoing.operation.declaration.settled_by else 0.0


def _hear(task: asyncio.Task[tuple[Answer, bool]]) -> None:
    """Take note of how a try ended that nobody waits for any more."""
    if not task.cancelled():
        task.exception()
