"""Handle: a handler runs inside its unit of work, which opens at its first statement.

The handler's coroutine is stepped on the event loop, in a context of its own,
until it awaits `OPEN`. From there the store steps it to its end; where the store
had to roll back for reasons of its own, the handler begins again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import (
    DeadlineExceededError,
    HandlerFaultError,
    Outcome,
    StoreUnavailableError,
    TenfoldError,
    UndeclaredRefusalError,
)
from tenfold.contracts.refusals import Refusal
from tenfold.path.stops import Stops
from tenfold.path.turns import Turns
from tenfold.ports.clock import Ids
from tenfold.ports.stepping import close_handler
from tenfold.ports.unit import CURRENT, OPEN, Message, Unit, UnitLostError, UnitResult, Units

__all__ = [
    "Begun",
    "as_fault",
    "begin_handler",
    "deadline_error",
    "decide_outcome",
    "decide_rerun_s",
    "handle_in_unit",
    "undeclared",
]

RERUNS = 60
"""Times a handler is begun, at the most, when the store rolls it back."""
_LONGEST_DOUBLING = 6


async def handle_in_unit(
    message: Message,
    make_unit: Callable[[], Unit],
    begin: Callable[[], Coroutine[Any, Any, Any]],
    units: Units,
    ids: Ids,
    stops: Stops,
    begun: Begun | None = None,
) -> UnitResult:
    """Run a handler to its commit.

    What is begun again takes turns with what is begun again of the same target in
    this process: those that contend on one row would otherwise lose against each
    other once more.

    Args:
        make_unit: makes an empty unit of work, for each time that the handler begins.
        begin: makes the handler's coroutine.
        begun: one that has taken its first step already, with the message's present unit.
    Raises: what the handler raised, after a rollback; StoreUnavailableError
        (NOT_DONE) when it was rolled back too often. Once a commit has been in
        doubt, MAYBE_DONE, also instead of what the handler raised.
    """
    in_doubt = False
    attempt = 0
    while True:
        attempt += 1
        unit = message.unit if begun is not None else None
        message.unit = unit = unit or make_unit()
        unit.sealed = in_doubt
        if begun is None:  # its first step may have called commands already
            message.calls = None
        reruns = message.host.reruns if attempt > 1 and message.host is not None else None
        try:
            return await _Handling(message, unit, begin, units, stops, reruns, begun)
        except UnitLostError as error:
            in_doubt = in_doubt or error.outcome is Outcome.MAYBE_DONE
            wait_s = decide_rerun_s(attempt, ids.uniform())
            if attempt >= RERUNS or time.monotonic() + wait_s >= message.deadline:
                raise _given_up(message, attempt, error, in_doubt) from error
        except TenfoldError as error:
            if in_doubt and error.outcome is Outcome.NOT_DONE:
                error.outcome = Outcome.MAYBE_DONE
            raise
        except Exception as error:
            if in_doubt:  # a refusal or a fault would say that nothing was done
                raise _doubted(message, error) from error
            raise
        begun = None
        await asyncio.sleep(wait_s)


class Begun:
    """A handler that has taken its first step, in a context of its own."""

    __slots__ = ("awaited", "context", "ended", "handler")

    def __init__(
        self,
        context: Context,
        handler: Coroutine[Any, Any, Any],
        awaited: Any,
        ended: BaseException | None,
    ) -> None:
        self.context = context
        self.handler = handler
        self.awaited = awaited
        """What it waits for."""
        self.ended = ended
        """How it ended with that step: StopIteration with its value, or its error."""

    def first_step(self, _: Any) -> Any:
        """What the step gave, as if it were taken now."""
        ended, self.ended = self.ended, None
        if ended is None:
            return self.awaited
        try:
            raise ended
        finally:
            del ended  # which holds this frame


def begin_handler(message: Message, handler: Coroutine[Any, Any, Any]) -> Begun:
    """Take a handler's first step, which for many is their last: no task and no timer needed."""
    # A context of the handler's own, which the store's thread can enter too: the task's
    # is entered by the loop, and cannot be taken along.
    context = copy_context()
    context.run(CURRENT.set, message)
    try:
        return Begun(context, handler, context.run(handler.send, None), None)
    except BaseException as error:
        return Begun(context, handler, None, error)


def _doubted(message: Message, error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"The connection of {message.envelope.target} was lost during its commit, so it may be "
        f"done. Begun again it failed with {type(error).__name__}: {error}. Send it again with the "
        "same Idempotency-Key.",
        outcome=Outcome.MAYBE_DONE,
    )


def _given_up(
    message: Message, attempts: int, error: UnitLostError, in_doubt: bool
) -> StoreUnavailableError:
    begun = f"{message.envelope.target} was begun {attempts} times, and each time the database"
    if in_doubt:
        return StoreUnavailableError(
            f"{begun} lost it. Once that was during the commit, so it may be done. Send it again "
            "with the same Idempotency-Key.",
            outcome=Outcome.MAYBE_DONE,
        )
    return StoreUnavailableError(
        f"{begun} rolled it back. Nothing was committed. Try again later; if it goes on, look at "
        f"what else writes to the same rows. The last time: {error}"
    )


def decide_rerun_s(attempt: int, chance: float) -> float:
    """Seconds before a handler begins again: 2 ms doubled six times at the most, with full jitter.

    Full jitter after M. Brooker, "Exponential Backoff and Jitter" (2015).
    """
    return float(0.002 * 2 ** min(attempt, _LONGEST_DOUBLING) * chance)


class _Handling:
    """One run of a handler, awaited by the task that carries its message."""

    __slots__ = ("_begin", "_begun", "_message", "_reruns", "_stops", "_unit", "_units")

    def __init__(
        self,
        message: Message,
        unit: Unit,
        begin: Callable[[], Coroutine[Any, Any, Any]],
        units: Units,
        stops: Stops,
        reruns: Turns | None,
        begun: Begun | None,
    ) -> None:
        self._reruns = reruns
        self._begun = begun
        self._stops = stops
        self._message = message
        self._unit = unit
        self._begin = begin
        self._units = units

    def __await__(self) -> Generator[Any, Any, UnitResult]:
        try:
            return (yield from self._steps())
        finally:
            self._unit.closed = True

    def _steps(self) -> Generator[Any, Any, UnitResult]:
        begun = self._begun or begin_handler(self._message, self._begin())
        context, handler = begun.context, begun.handler
        step: Callable[..., Any] = begun.first_step
        argument: Any = None
        while True:
            try:
                awaited = context.run(step, argument)
            except StopIteration as stop:
                return (yield from self._end(None, context, stop.value))
            if awaited is OPEN:
                return (yield from self._end(handler, context, None))
            try:
                argument = yield awaited
                step = handler.send
            except GeneratorExit:
                context.run(handler.close)
                raise
            except BaseException as error:  # thrown in by the loop: the handler's to see
                argument = error
                step = handler.throw

    def _end(
        self, handler: Coroutine[Any, Any, Any] | None, context: Context, value: Any
    ) -> Generator[Any, Any, UnitResult]:
        if handler is None and not self._unit.must_commit:
            return UnitResult(value=value, position=0)
        started = time.perf_counter()
        outcome = "rolled_back"
        try:
            running = self._units.run(self._unit, handler, context, value)
            if self._reruns is not None:
                running = _in_turn(self._reruns, self._message, handler, context, running)
            result = yield from running.__await__()
            outcome = "replayed" if result.replay or result.duplicate else "committed"
            return result
        finally:
            self._stops.unit_of_work.observe(
                self._message.module, outcome, time.perf_counter() - started
            )


async def _in_turn(
    reruns: Turns,
    message: Message,
    handler: Coroutine[Any, Any, Any] | None,
    context: Context,
    running: Coroutine[Any, Any, UnitResult],
) -> UnitResult:
    """Open the unit of work of a handler that is begun again when it is its turn.

    The turn is taken no earlier: while it gathers, a handler may call others.
    """
    begun = False
    try:
        async with reruns.take(message.envelope.target):
            begun = True
            return await running
    finally:
        if not begun:
            running.close()
            close_handler(handler, context)


def as_fault(target: str, error: BaseException) -> HandlerFaultError:
    """An unexpected exception of a handler, as the platform's error, with it as the cause."""
    return HandlerFaultError(
        f"The handler of {target} failed with {type(error).__name__}: {error}. Nothing was "
        "committed. The log has the traceback under the trace id."
    )


def decide_outcome(error: TenfoldError, effects: bool) -> TenfoldError:
    """The error of a message, with the truth about the commands that its handler called.

    Args:
        effects: whether one of them may have committed.
    """
    if effects and error.outcome is Outcome.NOT_DONE:
        error.outcome = Outcome.MAYBE_DONE
        text = str(error).replace("Nothing was committed. ", "").replace("Send it again.", "")
        told = (
            f"{text.strip()} Its own unit of work left nothing, but a command that it called "
            "may be done. Send it again with the same Idempotency-Key."
        )
        error.args = (told,)
    return error


def undeclared(spec: OperationSpec, refusal: Refusal) -> UndeclaredRefusalError:
    """The error for a refusal that the contract does not declare."""
    name = type(refusal).__name__
    return UndeclaredRefusalError(
        f"{spec.contract}.{spec.name} raised {name}, which it does not declare. Nothing was "
        f"committed. Add {name} to its raises=[...], or raise one that is there."
    )


def deadline_error(target: str, timeout_s: float, message: Message) -> DeadlineExceededError:
    """The error for a message whose time was up, with the truth about its commit."""
    if message.unit is not None and message.unit.sealed:
        return DeadlineExceededError(
            f"{target} took longer than its {timeout_s:g} s while it was being committed, so it "
            "may be done. Ask for its result, or send it again with the same Idempotency-Key.",
            outcome=Outcome.MAYBE_DONE,
        )
    return DeadlineExceededError(
        f"{target} took longer than its {timeout_s:g} s. Nothing was committed. Send it again."
    )
