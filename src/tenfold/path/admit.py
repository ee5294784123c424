"""Admit: what is decided before any work is done."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import (
    DeadlineExceededError,
    InvalidArgumentsError,
    KeyReusedError,
    NotPermittedError,
    OverloadedError,
    TenfoldError,
)
from tenfold.contracts.operations import Kind
from tenfold.ports.records import ReplyKey, StoredReply

__all__ = [
    "KEY_LIFE",
    "QUEUED_KEY_LIFE",
    "decide_admission",
    "decide_replay",
    "decide_who",
    "fingerprint",
    "reply_key",
]

KEY_LIFE = timedelta(hours=24)
"""How long the reply is kept of a command that came with a key."""
QUEUED_KEY_LIFE = timedelta(days=365)
"""How long the reply is kept of a command that queued work called.

A dead letter may be retried long after its calls were done, and must not do them again.
"""
_scope = msgspec.json.Encoder().encode
_encode = msgspec.msgpack.Encoder(order="sorted").encode


def decide_who(target: str, who: str, principal: Principal, internal: bool) -> TenfoldError | None:
    """Whether the caller is one of those whom `who=` admits; the error where not."""
    if who == "anyone":
        return None
    if who == "internal":
        if internal:
            return None
        return NotPermittedError(
            f"{target} is internal: only modules of the product may call it. Nothing was done."
        )
    if principal.may(who):
        return None
    return NotPermittedError(
        f"{principal.id!r} lacks the permission {who!r}, which {target} asks for. Nothing was "
        "done. Grant it, or call as someone who has it."
    )


def decide_admission(
    target: str,
    spec: OperationSpec,
    *,
    principal: Principal,
    internal: bool,
    time_left_s: float,
    in_flight: int,
    most_in_flight: int,
    idempotency_key: str | None,
) -> TenfoldError | None:
    """Whether a message that came in is handled; the error with which it is turned away.

    In order: who may, time left, load, idempotency key.
    """
    refused = decide_who(target, spec.declaration.who, principal, internal)
    if refused is not None:
        return refused
    if time_left_s <= 0:
        return DeadlineExceededError(
            f"The deadline had passed when {target} was to begin. Nothing was done. Send it again."
        )
    if in_flight >= most_in_flight:
        return OverloadedError(
            f"{in_flight} messages are being handled, which is the limit. {target} was not begun. "
            "Send it again in a second, or raise the topology's limit."
        )
    if spec.declaration.key == "required" and idempotency_key is None and spec.kind is Kind.COMMAND:
        return InvalidArgumentsError(
            f"{target} asks for an idempotency key, since it cannot be taken back. Nothing was "
            "done. Send one, such as a new UUID for each new request.",
            field="Idempotency-Key",
            detail="Missing; this operation requires one",
        )
    return None


def fingerprint(arguments: msgspec.Struct) -> bytes:
    """What tells one request from another under the same idempotency key."""
    return hashlib.blake2b(_encode(arguments), digest_size=16).digest()


def reply_key(
    target: str,
    principal: Principal,
    tenant: str,
    key: str,
    arguments: Any,
    expires_at: datetime,
) -> ReplyKey:
    """The identity of a keyed command: it belongs to principal, tenant and operation."""
    return ReplyKey(
        # As a list, so that no principal's name can read like another's together with a tenant.
        scope=_scope([principal.id, tenant, target]).decode(),
        key=key,
        fingerprint=fingerprint(arguments),
        expires_at=expires_at,
    )


def decide_replay(key: ReplyKey, stored: StoredReply, target: str) -> KeyReusedError | None:
    """Whether a stored reply answers this request; the error where it was another request."""
    if stored.fingerprint == key.fingerprint:
        return None
    return KeyReusedError(
        f"The idempotency key {key.key!r} was used for another request to {target}. Nothing was "
        "done for this one. Use a new key for a new request."
    )
