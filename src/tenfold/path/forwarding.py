"""Forwarding: a call that came in here, as it travels to the process that hosts its module."""

from __future__ import annotations

import time

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import TraceContext
from tenfold.contracts.operations import Kind
from tenfold.path.entry import Incoming, Reply
from tenfold.path.kept import Shown
from tenfold.path.positions import merge_tokens
from tenfold.ports.peers import Outgoing, Returned
from tenfold.ports.unit import Message

__all__ = ["outgoing_of", "question_of", "reply_of"]

_decode_kept = msgspec.msgpack.Decoder(Shown).decode


def outgoing_of(
    incoming: Incoming, trace: TraceContext, key: str | None, timeout_s: float
) -> Outgoing:
    """What travels of a call that came in.

    Args:
        key: under which it happens once; None for a query.
        timeout_s: what is left of its time.
    """
    return Outgoing(
        operation=incoming.operation,
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


def question_of(
    spec: OperationSpec,
    arguments: msgspec.Struct,
    parent: Message,
    *,
    trace: TraceContext,
    key: str | None,
    decision: bool,
    position: str | None,
) -> Outgoing:
    """What travels of a call that the handler of a message makes: it acts for the same caller."""
    sender = parent.envelope
    return Outgoing(
        operation=spec,
        arguments=arguments,
        principal=sender.principal,
        tenant=sender.tenant,
        key=key,
        timeout_s=parent.deadline - time.monotonic(),
        trace=trace,
        position=position,
        decision=decision,
        queued=parent.kind is not Kind.COMMAND,
    )


def reply_of(returned: Returned, trace: TraceContext, position: str | None) -> Reply:
    """What came back, as the edge here answers it, for a caller who had seen `position`."""
    return Reply(
        value=returned.value,
        trace=trace,
        replayed=returned.replayed,
        position=merge_tokens(position, returned.position),
        settled=returned.settled,
        behind=returned.behind,
        kept=None if returned.kept is None else _decode_kept(returned.kept),
    )
