"""What a worker decides: in which runs a batch is worked, and what follows a failed attempt."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.structs import Struct
from tenfold.path.declare import Background
from tenfold.ports.records import Claimed

__all__ = [
    "Dead",
    "Retry",
    "decide_batch",
    "decide_begin",
    "decide_retry",
    "error_text",
    "log_fields",
]

LONGEST_BACKOFF_S = 3600.0
LONGEST_ERROR = 2000


class _Sent(msgspec.Struct, frozen=True):
    """What a log line takes from an envelope at rest; the rest of it is skipped, not decoded."""

    trace: TraceContext
    tenant: str


_decode_sent = msgspec.msgpack.Decoder(_Sent).decode


class Retry(Struct):
    """The entry is tried again after so many seconds."""

    delay_s: float


class Dead(Struct):
    """The entry becomes a dead letter. `holds`: its lane stays closed behind it."""

    holds: bool


def decide_batch(entries: Sequence[Claimed]) -> list[list[Claimed]]:
    """Split a claim into runs that may be worked beside one another.

    Entries of one lane are one run, in their order; an entry without a lane is a
    run of its own. Runs stand in the order of their first entries.
    """
    runs: list[list[Claimed]] = []
    lanes: dict[str, list[Claimed]] = {}
    for entry in entries:
        if entry.lane is None:
            runs.append([entry])
        elif entry.lane in lanes:
            lanes[entry.lane].append(entry)
        else:
            lanes[entry.lane] = [entry]
            runs.append(lanes[entry.lane])
    return runs


def decide_begin(entry: Claimed, background: Background) -> Dead | None:
    """Whether an entry is dead before it begins: its last attempt was lost with its claim.

    Only a lost claim counts an attempt without coming past `decide_retry`. One that
    was lost in a batch may never have begun, so it is given a run by itself first.
    """
    spent = entry.suspect and entry.attempt > background.attempts
    return dead(entry.handler) if spent else None


def decide_retry(entry: Claimed, background: Background, jitter: float) -> Retry | Dead:
    """What follows the failure of an attempt.

    Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): a moment
    anywhere between now and the doubled backoff, so that entries that failed
    together do not come back together.

    Args:
        jitter: a random number in [0, 1).
    """
    if entry.attempt >= background.attempts:
        return dead(entry.handler)
    backoff_s = background.backoff_s * 2.0 ** (entry.attempt - 1)
    return Retry(delay_s=min(backoff_s, LONGEST_BACKOFF_S) * jitter)


def dead(handler: str) -> Dead:
    """A dead letter: one of a projection holds its lane, since what follows builds on it."""
    return Dead(holds="." in handler)


def error_text(error: BaseException) -> str:
    """An error as a queue keeps it: its class and message, cut to a bounded length."""
    return f"{type(error).__qualname__}: {error}"[:LONGEST_ERROR]


def log_fields(module: str, entry: Claimed) -> dict[str, str]:
    """What a log line about an entry carries as `extra`, once its message is no longer handled.

    Returns: the target; trace id and tenant too, where the body can be read.
    """
    fields = {"target": f"{module}.{entry.handler}"}
    try:
        sent = _decode_sent(entry.body)
    except msgspec.DecodeError:  # the very reason, perhaps, for which it failed
        return fields
    return {**fields, "trace_id": sent.trace.trace_id, "tenant": sent.tenant}
