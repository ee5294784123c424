"""The envelope: the frozen record that travels with every message."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Struct

__all__ = ["ANONYMOUS", "OPERATOR", "Envelope", "Principal", "TraceContext"]


class Principal(Struct):
    """Who acts: a stable id, and the permissions that it was granted.

    `"*"` among the permissions stands for all of them. A principal is a fact,
    not a token: it may travel with queued work.
    """

    id: str
    permissions: tuple[str, ...] = ()

    def may(self, permission: str) -> bool:
        """Whether this principal holds a permission."""
        return permission in self.permissions or "*" in self.permissions


ANONYMOUS = Principal(id="anonymous")
OPERATOR = Principal(id="operator", permissions=("*",))


_TRACEPARENT: Final = re.compile(
    "([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class TraceContext(Struct):
    """The W3C trace context of a message (https://www.w3.org/TR/trace-context/).

    `trace_id` is 32 and `span_id` 16 lower-case hexadecimal digits.
    """

    trace_id: str
    span_id: str
    sampled: bool = False

    @property
    def traceparent(self) -> str:
        """The `traceparent` header, version 00."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    @staticmethod
    def parse(header: str) -> TraceContext | None:
        """Read a `traceparent` header; None where it is malformed, as the standard asks."""
        found = _TRACEPARENT.fullmatch(header.strip())
        if found is None:
            return None
        version, trace_id, span_id, flags, more = found.groups()
        if version == "ff" or (version == "00" and more is not None):
            return None
        if trace_id == _NO_TRACE or span_id == _NO_SPAN:
            return None
        return TraceContext(trace_id=trace_id, span_id=span_id, sampled=bool(int(flags, 16) & 1))


class Envelope(Struct):
    """What travels with every message, whatever brought it.

    `target` is `module.operation` for calls, `module.EventName` for an event on
    its way, and `module.handler` for queued work, events in their handlers
    included. `deadline` is absent on events and jobs: they are delayed, never
    shed. `trace` names the span that sent it, or handles it.
    """

    id: str
    kind: Kind
    target: str
    payload: Any
    principal: Principal
    tenant: str
    trace: TraceContext
    at: datetime
    deadline: datetime | None = None
    idempotency_key: str | None = None
    order_key: str | None = None
    cause: str | None = None
    version: int = 1
