"""Problems (RFC 9457): the one place where an error becomes an HTTP status."""

from __future__ import annotations

import logging
import math
from typing import Any

from tenfold.contracts.errors import (
    InvalidArgumentsError,
    Outcome,
    OverloadedError,
    RateLimitedError,
    TenfoldError,
)
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Struct
from tenfold.edges.http.asgi import Headers
from tenfold.edges.http.errors import EdgeFaultError, HttpError, UnreadableRequestError
from tenfold.edges.http.limits import refusal_headers
from tenfold.ports.frames import CircuitOpenError

__all__ = ["ERROR_STATUS", "RESERVED", "Problem", "problem_of", "sentence_of"]

ERROR_STATUS: dict[str, int] = {
    "admit.deadline_exceeded": 504,
    "admit.key_reused": 422,
    "admit.not_permitted": 403,
    "admit.overloaded": 503,
    "admit.rate_limited": 429,
    "call.circuit_open": 503,
    "call.invalid_arguments": 422,
    "call.lost": 503,
    "call.unavailable": 503,
    "store.unavailable": 503,
}
"""Code to status. Every other TenfoldError is a fault of the product: 500."""

RESERVED = frozenset(
    ("type", "title", "status", "detail", "instance", "code", "outcome", "trace_id", "errors")
)
"""Names that every problem has, and that a refusal's fields must not take."""

_FAULT_DETAIL = {
    500: "The operation failed for a reason of its own. The trace id leads to it in the logs.",
    503: "The product cannot do this at the moment. Send the request again a little later.",
}
_TELL_DETAIL = frozenset(("admit.overloaded", "admit.deadline_exceeded"))
_logger = logging.getLogger("tenfold.edge")


class Problem(Struct):
    """An answer that says no: its status, its members, its own headers."""

    status: int
    members: dict[str, Any]
    headers: Headers
    outcome_label: str


def sentence_of(kind: type[BaseException]) -> str:
    """The first paragraph of an error's docstring, on one line."""
    if issubclass(kind, Refusal):
        return kind.sentence()
    return " ".join((kind.__doc__ or kind.__name__).strip().split("\n\n")[0].split())


def problem_of(error: BaseException, trace_id: str) -> Problem:
    """What the caller is told of an error.

    Refusals and mistakes of the caller are told in full. Of a fault the caller
    learns its code, its outcome and the trace id; its text goes to the log.
    """
    if isinstance(error, Refusal):
        kind = type(error)
        members = _members(kind.status, kind.code, kind.sentence(), Outcome.NOT_DONE, trace_id)
        members["detail"] = kind.sentence()
        members.update(error.payload())
        return Problem(status=kind.status, members=members, headers=[], outcome_label="refused")
    if isinstance(error, TenfoldError):
        return _of_tenfold(error, trace_id)
    fault = EdgeFaultError("The request failed.")
    fault.__cause__ = error
    return _of_tenfold(fault, trace_id)


def _of_tenfold(error: TenfoldError, trace_id: str) -> Problem:
    status = error.status if isinstance(error, HttpError) else ERROR_STATUS.get(error.code, 500)
    members = _members(status, error.code, sentence_of(type(error)), error.outcome, trace_id)
    if status < 500 or error.code in _TELL_DETAIL:
        members["detail"] = str(error)
    else:
        members["detail"] = _FAULT_DETAIL[status]
        _logger.error(
            "request failed", exc_info=error, extra={"trace_id": trace_id, "code": error.code}
        )
    headers = error.headers() if isinstance(error, HttpError) else []
    if isinstance(error, InvalidArgumentsError | UnreadableRequestError) and error.field:
        members["errors"] = [{"field": error.field, "detail": error.detail}]
    if isinstance(error, RateLimitedError):
        headers = [*headers, *refusal_headers(error)]
        members["violated-policies"] = [error.policy]
    if status == 503:
        after_s = 1.0
        if isinstance(error, OverloadedError | CircuitOpenError):
            after_s = error.retry_after_s
        headers = [*headers, (b"retry-after", str(max(1, math.ceil(after_s))).encode("ascii"))]
    label = "fault" if status >= 500 else "refused"
    return Problem(status=status, members=members, headers=headers, outcome_label=label)


def _members(status: int, code: str, title: str, outcome: Outcome, trace_id: str) -> dict[str, Any]:
    return {
        "type": f"/problems/{code}",
        "title": title,
        "status": status,
        "code": code,
        "outcome": outcome.value,
        "trace_id": trace_id,
    }
