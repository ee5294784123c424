"""Forwarding: calls as they travel to the process that hosts their module."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.errors import DeadlineExceededError, Outcome, TenfoldError
from tenfold.contracts.operations import Kind
from tenfold.path.calling import decide_call_key
from tenfold.path.entry import Incoming, Reply
from tenfold.path.kept import Shown
from tenfold.path.module import new_trace
from tenfold.path.operations import RemoteOperation
from tenfold.path.positions import merge_tokens
from tenfold.path.proxies import CallOptions
from tenfold.ports.clock import Ids
from tenfold.ports.peers import Outgoing, Returned
from tenfold.ports.unit import Message

__all__ = [
    "ask",
    "decide_told",
    "incoming_of",
    "outgoing_of",
    "reply_of",
    "returned_of",
    "silent_error",
]

_encode_kept = msgspec.msgpack.Encoder().encode
_decode_kept = msgspec.msgpack.Decoder(Shown).decode


def outgoing_of(
    module: str, incoming: Incoming, trace: TraceContext, key: str | None, timeout_s: float
) -> Outgoing:
    """What travels of a call that came in.

    Args:
        module: the one that offers the operation.
        key: under which it happens once; None for a query.
        timeout_s: what is left of its time.
    """
    return Outgoing(
        operation=incoming.operation,
        module=module,
        arguments=incoming.arguments,
        principal=incoming.principal,
        tenant=incoming.tenant,
        key=key,
        timeout_s=timeout_s,
        trace=trace,
        position=incoming.position,
        wait_s=incoming.wait_s,
        outside=not incoming.internal,
        decision=incoming.decision,
        queued=incoming.queued,
    )


def incoming_of(outgoing: Outgoing) -> Incoming:
    """A call as the path takes it that was to go to another process, and is carried here."""
    return Incoming(
        operation=outgoing.operation,
        arguments=outgoing.arguments,
        principal=outgoing.principal,
        tenant=outgoing.tenant,
        internal=not outgoing.outside,
        trace=outgoing.trace,
        idempotency_key=outgoing.key,
        timeout_s=outgoing.timeout_s,
        position=outgoing.position,
        wait_s=outgoing.wait_s,
        counted=outgoing.outside,
        decision=outgoing.decision,
        queued=outgoing.queued,
    )


async def ask(
    operation: RemoteOperation,
    parent: Message,
    options: CallOptions,
    arguments: msgspec.Struct,
    ids: Ids,
) -> Any:
    """A call of one module to another that lives in another process: for the same caller.

    Raises: as a call here does; that nobody can be reached or was lost besides.
    """
    sender, trail = parent.envelope, parent.trail
    decision, key = False, None
    if operation.is_query:
        decision = options.decision and (parent.decision or parent.kind is not Kind.QUERY)
        if trail is not None:
            trail = trail.on(operation)
    else:
        found = decide_call_key(operation, parent, options.key)
        if isinstance(found, TenfoldError):
            raise found
        key = found
        parent.effects = True
    outgoing = Outgoing(
        operation=operation.spec,
        module=operation.module_name,
        arguments=arguments,
        principal=sender.principal,
        tenant=sender.tenant,
        key=key,
        timeout_s=parent.deadline - time.monotonic(),
        trace=new_trace(ids, sender.trace),
        position=None if trail is None else trail.token,
        decision=decision,
        queued=parent.kind in (Kind.JOB, Kind.EVENT, Kind.SCHEDULE),
    )
    try:
        returned = await operation.peer.call(outgoing)
    except TenfoldError as error:
        decide_told(error, query=operation.is_query)
        raise
    if operation.is_query and trail is not None:
        trail.shows = merge_tokens(trail.shows, returned.position)
    return returned.value


def decide_told(error: TenfoldError, *, query: bool) -> TenfoldError:
    """What the error of a call to another module means for whoever made that call.

    That a query was answered, or a command done, is not its own work.
    """
    if query:
        error.outcome = Outcome.NOT_DONE
    elif error.outcome is Outcome.DONE:
        error.outcome = Outcome.MAYBE_DONE
    return error


def silent_error(target: str, waited_s: float, query: bool) -> DeadlineExceededError:
    """The error for a call to another process that has not answered in its time."""
    if query:
        return DeadlineExceededError(
            f"The process that hosts {target} has not answered within {waited_s:g} s. Ask again."
        )
    return DeadlineExceededError(
        f"The process that hosts {target} has not answered within {waited_s:g} s, so it may be "
        "done. Ask for its result, or send it again with the same Idempotency-Key.",
        outcome=Outcome.MAYBE_DONE,
    )


def reply_of(returned: Returned, trace: TraceContext, position: str | None) -> Reply:
    """What came back, as the edge here answers it, for a caller who had seen `position`."""
    return Reply(
        value=returned.value,
        trace=trace,
        replayed=returned.replayed,
        position=returned.position or position,
        settled=returned.settled,
        behind=returned.behind,
        kept=None if returned.kept is None else _decode_kept(returned.kept),
    )


def returned_of(reply: Reply) -> Returned:
    """What the path answered here, as it comes back from another process."""
    return Returned(
        value=reply.value,
        position=reply.position,
        replayed=reply.replayed,
        settled=reply.settled,
        behind=reply.behind,
        kept=None if reply.kept is None else _encode_kept(reply.kept),
    )
