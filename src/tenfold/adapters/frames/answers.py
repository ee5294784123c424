"""What an answer that came by a frame means at the caller."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import (
    DeadlineExceededError,
    InvalidArgumentsError,
    Outcome,
    OverloadedError,
    TenfoldError,
)
from tenfold.contracts.refusals import Refusal
from tenfold.ports.frames import Answered, CircuitOpenError, Failed, FrameError, Refused
from tenfold.ports.peers import Returned

__all__ = ["Answer", "decide_fault", "decide_given_up", "decide_late", "returned"]

Answer = Answered | Refused | Failed
_FAULTS: Final = frozenset(
    (
        "admit.overloaded",
        "call.invalid_result",
        "handle.fault",
        "handle.undeclared_refusal",
        "store.unavailable",
        "tenfold.error",
    )
)
"""Errors that tell of the process which answered, or of the operation there. Others tell of the
caller (arguments, permissions, rates, keys) or of a third process, which has its own caller."""
_FOR_SURE_S: Final = 1.0
_TIMES_THE_USUAL: Final = 4.0
_TIMER_S: Final = 0.002
"""How much too early a caller's timer may ring: uvloop's loop counts whole milliseconds."""


def decide_fault(answer: Answer, given_s: float, usual_s: float) -> bool:
    """Whether an answer counts against who gave it. Refusals never do.

    Args:
        given_s: the time that the call had.
        usual_s: what its operation usually takes; infinite where that is not known.
    """
    if not isinstance(answer, Failed):
        return False
    if answer.code == DeadlineExceededError.code:
        return decide_late(given_s, usual_s)
    return answer.code in _FAULTS


def decide_late(given_s: float, usual_s: float) -> bool:
    """Whether a call that was not done in its time counts against who was to do it.

    Who gives less than the operation takes asks for too much, and that is no fault of it.
    """
    if usual_s == math.inf:
        return given_s >= _FOR_SURE_S
    return given_s >= _TIMES_THE_USUAL * usual_s


def decide_given_up(took_s: float, given_s: float, usual_s: float) -> bool:
    """Whether a call that its caller gave up counts against who was asked: it had its time."""
    return took_s + _TIMER_S >= given_s and decide_late(given_s, usual_s)


def returned(spec: OperationSpec, answer: Answer, decode: Callable[[bytes], Any]) -> Returned:
    """What an answer means.

    Args:
        decode: reads a result of the operation.

    Raises: the refusal or error that it stands for.
    """
    try:
        if isinstance(answer, Answered):
            return Returned(
                value=decode(answer.value),
                position=answer.position,
                replayed=answer.replayed,
                settled=answer.settled,
                behind=answer.behind,
                kept=answer.kept,
            )
        if isinstance(answer, Refused):
            raise _refusal(spec, answer)
    except msgspec.ValidationError as error:
        raise FrameError(
            f"The answer of {spec.contract}.{spec.name} is not what its contract says: {error}. It "
            "was done. Is the process that runs of another version?",
            outcome=Outcome.DONE,
        ) from error
    raise _error(answer)


def _refusal(spec: OperationSpec, refused: Refused) -> Exception:
    for kind in spec.declaration.raises:
        if kind.code == refused.code:
            fields = msgspec.msgpack.decode(refused.fields, type=kind.payload_type())
            refusal: Refusal = kind(**{name: getattr(fields, name) for name in kind.fields})
            return refusal
    return FrameError(
        f"{spec.contract}.{spec.name} was refused as {refused.code!r}, which the contract here "
        "does not declare. Is the process that runs of another version?"
    )


def _error(failed: Failed) -> TenfoldError:
    if failed.code == InvalidArgumentsError.code:
        return InvalidArgumentsError(failed.message, field=failed.field, detail=failed.detail)
    if failed.code == OverloadedError.code:
        return OverloadedError(failed.message, retry_after_s=failed.retry_after_s or 1.0)
    if failed.code == CircuitOpenError.code:
        return CircuitOpenError(failed.message, retry_after_s=failed.retry_after_s or 1.0)
    kind = _kinds(TenfoldError).get(failed.code, TenfoldError)
    error = kind.__new__(kind)
    TenfoldError.__init__(error, failed.message, outcome=failed.outcome)
    if error.code != failed.code:
        error.__dict__["code"] = failed.code
    return error


def _kinds(root: type[TenfoldError]) -> dict[str, type[TenfoldError]]:
    found = {root.code: root}
    for kind in root.__subclasses__():
        found |= _kinds(kind)
    return found
