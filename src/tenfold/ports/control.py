"""The frames of the control socket, version 1: what its two ends must agree on.

A frame is four bytes of length (big-endian) and so many of MessagePack: an array
whose first item names the frame. The caller says `Hello` first and is answered
with one, or with a `Failed` of number 0. Then each `Call` is answered by one
`Answered`, `Refused` or `Failed` of the same number, in any order.
"""

from __future__ import annotations

import struct
from typing import Any

import msgspec

from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import Outcome, TenfoldError

__all__ = [
    "MAX_FRAME_BYTES",
    "PREFIX",
    "VERSION",
    "Answered",
    "Call",
    "Cancel",
    "ControlLostError",
    "ControlProtocolError",
    "ControlUnavailableError",
    "Failed",
    "Frame",
    "Hello",
    "Refused",
    "pack",
]

VERSION = 1
MAX_FRAME_BYTES = 16 * 1024 * 1024
PREFIX = struct.Struct(">I")


class ControlUnavailableError(TenfoldError):
    """The process that holds the data does not answer on its control socket; nothing was sent."""

    code = "control.unavailable"


class ControlLostError(TenfoldError):
    """The process went away before it answered; a command that was sent may still have run."""

    code = "control.lost"
    outcome = Outcome.MAYBE_DONE


class ControlProtocolError(TenfoldError):
    """What came over the control socket is not of this version, too large, or no frame at all."""

    code = "control.protocol"


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="frame"):
    """One frame, in either direction."""


class Hello(Frame, frozen=True, tag="hello"):
    """Begins a connection. `contracts` maps what the process offers to the module that does."""

    version: int
    product: str = ""
    contracts: dict[str, str] = {}


class Call(Frame, frozen=True, tag="call"):
    """One call. `target` is `module.operation`; `number` is the caller's, unique while it waits."""

    number: int
    target: str
    arguments: msgspec.Raw
    principal: Principal
    tenant: str = "main"
    key: str | None = None
    timeout_s: float | None = None
    trace: str | None = None


class Cancel(Frame, frozen=True, tag="cancel"):
    """The caller of a call no longer waits."""

    number: int


class Answered(Frame, frozen=True, tag="answered"):
    """What the contract promises, as MessagePack."""

    number: int
    value: msgspec.Raw
    position: str | None = None
    replayed: bool = False


class Refused(Frame, frozen=True, tag="refused"):
    """A declared refusal: its code, and its fields."""

    number: int
    code: str
    fields: msgspec.Raw


class Failed(Frame, frozen=True, tag="failed"):
    """Everything else that a caller can see: stable code, outcome, message."""

    number: int
    code: str
    outcome: Outcome
    message: str
    field: str = ""
    detail: str = ""
    retry_after_s: float | None = None


_encoder = msgspec.msgpack.Encoder()


def pack(frame: Frame) -> bytes:
    """A frame as bytes, its length before it. Raises: ControlProtocolError when it is too large."""
    body: Any = bytearray(PREFIX.size)
    _encoder.encode_into(frame, body, PREFIX.size)
    size = len(body) - PREFIX.size
    if size > MAX_FRAME_BYTES:
        raise ControlProtocolError(
            f"A frame of {size:,} bytes is larger than {MAX_FRAME_BYTES:,}. Nothing was sent. "
            "Send less at once."
        )
    PREFIX.pack_into(body, 0, size)
    return bytes(body)
