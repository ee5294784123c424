"""Frames: how calls travel between processes, version 2.

A frame is four bytes of length (big-endian) and so many of MessagePack: an array
whose first item is the number of its kind. Who connects says `Hello` first and is
answered with one, or with a `Failed` of number 0. Then each `Call` is answered by
one `Answered`, `Refused` or `Failed` of the same number, in any order.
`docs/reference/frames.md` has all of it for other implementations.
"""

from __future__ import annotations

import asyncio
import struct
from abc import ABC, abstractmethod
from typing import Any, Final

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
    "CircuitOpenError",
    "Failed",
    "Frame",
    "FrameError",
    "Hello",
    "Leaving",
    "PeerLostError",
    "PeerUnavailableError",
    "Refused",
    "Wire",
    "pack",
    "raw",
]

VERSION = 2
MAX_FRAME_BYTES = 16 * 1024 * 1024
PREFIX = struct.Struct(">I")
_NO_LENGTH: Final = bytes(PREFIX.size)
_LAST_WORDS_S: Final = 1.0
"""For how long a connection that is closed waits for its other end to read what is left."""
_PART_BYTES: Final = 2048
_PARTS: Final = 4
"""How much of what has come a turn of the loop takes: a fourth, and so many bytes at the least."""


class PeerUnavailableError(TenfoldError):
    """The process that was to be called does not answer; nothing was sent."""

    code = "call.unavailable"


class PeerLostError(TenfoldError):
    """The process went away before it answered; a command that was sent may still have run."""

    code = "call.lost"
    outcome = Outcome.MAYBE_DONE


class CircuitOpenError(TenfoldError):
    """So many calls of an operation failed that none is sent for a while.

    Retry after `retry_after_s`.
    """

    code = "call.circuit_open"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class FrameError(TenfoldError):
    """What came is not of this version, too large, or no frame at all."""

    code = "call.protocol"


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="frame"):
    """One frame, in either direction."""


class Hello(Frame, frozen=True, tag=0):
    """Begins a connection.

    `contracts` maps what the process offers to the module that does; `process` is its name,
    and `instance` tells it from whatever else has or had that name. `operations` are what it
    can be asked for, `module.operation`, each with the names of its arguments: in a roll-out
    it may be older or newer code than who calls. Who says none may have any.
    """

    version: int
    product: str = ""
    contracts: dict[str, str] = {}
    process: str = ""
    instance: str = ""
    operations: dict[str, tuple[str, ...]] = {}


class Call(Frame, frozen=True, tag=1):
    """One call. `target` is `module.operation`; `number` is the caller's, unique while it waits.

    `outside` is true for one that came in from outside the product's walls, and was
    counted by the limits where it did. `decision` asks for what is true now, past every
    replica and cache. `queued` says that background work calls, whose key must be
    remembered for as long as that may run again. `position` is what the caller has seen,
    and `wait_s` how long it would wait for the outcome of what a command sets off.
    """

    number: int
    target: str
    arguments: msgspec.Raw
    principal: Principal
    tenant: str = "main"
    key: str | None = None
    timeout_s: float | None = None
    trace: str | None = None
    position: str | None = None
    wait_s: float | None = None
    outside: bool = False
    decision: bool = False
    queued: bool = False


class Cancel(Frame, frozen=True, tag=2):
    """The caller of a call no longer waits."""

    number: int


class Answered(Frame, frozen=True, tag=3):
    """What the contract promises, as MessagePack. For the rest see `Reply`."""

    number: int
    value: msgspec.Raw
    position: str | None = None
    replayed: bool = False
    settled: bool = False
    behind: bool = False
    kept: bytes | None = None


class Refused(Frame, frozen=True, tag=4):
    """A declared refusal: its code, and its fields."""

    number: int
    code: str
    fields: msgspec.Raw


class Failed(Frame, frozen=True, tag=5):
    """Everything else that a caller can see: stable code, outcome, message."""

    number: int
    code: str
    outcome: Outcome
    message: str
    field: str = ""
    detail: str = ""
    retry_after_s: float | None = None


class Leaving(Frame, frozen=True, tag=6):
    """The process is about to end: it answers what it was asked, and new calls go elsewhere."""


_encode_into = msgspec.msgpack.Encoder().encode_into
_decode = msgspec.msgpack.Decoder(
    Hello | Call | Cancel | Answered | Refused | Failed | Leaving
).decode


def pack(frame: Frame) -> bytes:
    """A frame as bytes, its length before it. Raises: FrameError when it is too large."""
    out = bytearray()
    _append(out, frame)
    return bytes(out)


def _append(out: bytearray, frame: Frame) -> None:
    at = len(out)
    out += _NO_LENGTH
    _encode_into(frame, out, at + PREFIX.size)
    size = len(out) - at - PREFIX.size
    if size > MAX_FRAME_BYTES:
        del out[at:]
        raise FrameError(
            f"A frame of {size:,} bytes is larger than {MAX_FRAME_BYTES:,}. It was not sent. "
            "Send less at once."
        )
    PREFIX.pack_into(out, at, size)


class Wire(asyncio.Protocol, ABC):
    """One connection that carries frames, either end of it.

    What is sent in one turn of the loop leaves in one write. Of much that has come, each turn
    takes a part, so that what follows from the first of it is on its way while the rest is
    worked: else two processes with many calls between them would take turns, each waiting
    until the other has done them all.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._left = bytearray()
        self._needs = 0
        """How many bytes the frame has that `_left` begins with."""
        self._going_on = False
        """Whether `_left` has whole frames, for the next turn of the loop."""
        self._out = bytearray()
        self._flushing = False
        self.transport: asyncio.Transport | None = None
        self._aborts: asyncio.TimerHandle | None = None
        self.ended = asyncio.Event()
        """Set when the connection is gone."""

    @abstractmethod
    def came(self, frame: Frame) -> None:
        """A frame has come. Raises: FrameError for one that is out of turn."""

    @abstractmethod
    def failed(self, error: FrameError) -> None:
        """What came cannot be read; the connection is closed after that."""

    def send(self, frame: Frame) -> None:
        """Send a frame with this turn of the loop. Raises: FrameError when it is too large."""
        _append(self._out, frame)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Send what was handed over, then close; a second later whether or not that was read."""
        self._flush()
        if self.transport is not None and self._aborts is None:
            self.transport.close()
            self._aborts = self._loop.call_later(_LAST_WORDS_S, self.transport.abort)

    @property
    def closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self.transport is None or self.transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._aborts is not None:
            self._aborts.cancel()
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Take the whole frames out of what has come, or a part of them and the rest later."""
        if self._left:
            self._left += data
            if self._going_on or len(self._left) < self._needs:
                return
            data, self._left = bytes(self._left), bytearray()
        self._take(data, max(_PART_BYTES, len(data) // _PARTS))

    def eof_received(self) -> None:
        """See `asyncio.Protocol`."""
        self.take_rest()

    def take_rest(self) -> None:
        """Take at once what has come and would have been taken in the next turns."""
        if self._going_on:
            data, self._left, self._going_on = bytes(self._left), bytearray(), False
            self._take(data, len(data), last=True)

    def _go_on(self) -> None:
        if self._going_on and not self.closing:
            data, self._left, self._going_on = bytes(self._left), bytearray(), False
            self._take(data, max(_PART_BYTES, len(data) // _PARTS))

    def _take(self, data: bytes, most: int, *, last: bool = False) -> None:
        """Take whole frames out of what has come, until they are so many bytes or more.

        Args:
            last: whether the connection may be gone already.
        """
        size, at = len(data), 0
        view = memoryview(data)
        try:
            while size - at >= PREFIX.size:
                if at >= most:
                    self._going_on = True
                    self._loop.call_soon(self._go_on)
                    break
                (length,) = PREFIX.unpack_from(data, at)
                if length > MAX_FRAME_BYTES:
                    raise FrameError(
                        f"A frame of {length:,} bytes was announced; {MAX_FRAME_BYTES:,} are the "
                        "most. The connection is closed."
                    )
                begin = at + PREFIX.size
                if size - begin < length:
                    self._needs = PREFIX.size + length
                    break
                at = begin + length
                self.came(_decode(view[begin:at]))
                if self.closing and not last:
                    return
        except msgspec.DecodeError as error:
            self._unreadable(FrameError(f"What came is no frame: {error}."))
            return
        except FrameError as error:
            self._unreadable(error)
            return
        if at < size:
            if size - at < PREFIX.size:
                self._needs = PREFIX.size
            self._left += view[at:]

    def _unreadable(self, error: FrameError) -> None:
        self.failed(error)
        self.close()

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self.transport is not None:
            out, self._out = self._out, bytearray()
            if not self.transport.is_closing():
                self.transport.write(out)


def raw(value: Any) -> msgspec.Raw:
    """A value as MessagePack, to be put into a frame as it is."""
    return msgspec.Raw(msgspec.msgpack.encode(value))
