"""Time, randomness and identifiers, as ports, so that a test can hold them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

import msgspec

__all__ = ["Clock", "Ids", "RandomIds", "SystemClock", "text_of"]

text_of: Callable[[UUID], str] = msgspec.to_builtins
"""A UUID as text; a quarter of the cost of `str`."""


class Clock(Protocol):
    """What the time is. The store's clock is the one that leases and schedules trust."""

    def now(self) -> datetime:
        """The present moment in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards; only differences mean anything."""
        ...


class Ids(Protocol):
    """New identifiers and random numbers."""

    def uuid(self) -> UUID:
        """A UUID of version 7 (RFC 9562): later ones sort after earlier ones."""
        ...

    def hex(self, bits: int) -> str:
        """A random number of so many bits, in lower-case hexadecimal, never all zeros."""
        ...

    def uniform(self) -> float:
        """A random number in [0, 1), for jitter."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present moment in UTC."""
        return datetime.now(UTC)

    monotonic = staticmethod(time.monotonic)


class RandomIds:
    """Identifiers from the Mersenne twister, seeded by the operating system.

    They are unique, not secret: tokens and keys come from `secrets`.
    """

    def __init__(self, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self._bits = self._random.getrandbits
        self._last_ms = 0
        self._count = 0

    def uuid(self) -> UUID:
        """A UUID of version 7; those made within one millisecond count upwards."""
        ms = time.time_ns() // 1_000_000
        if ms <= self._last_ms:
            ms = self._last_ms
            self._count += 1
            if self._count > 0xFFF:
                ms += 1
                self._count = 0
        else:
            self._count = 0
        self._last_ms = ms
        value = (ms & 0xFFFFFFFFFFFF) << 80 | 0x7 << 76 | self._count << 64
        made: UUID = msgspec.convert(  # a third of the cost of UUID(int=...)
            (value | 0b10 << 62 | self._bits(62)).to_bytes(16, "big"), UUID
        )
        return made

    def hex(self, bits: int) -> str:
        """A random number of so many bits, in lower-case hexadecimal, never all zeros."""
        # Twice for every call: a format that is made each time cost as much as the number.
        if bits == 64:
            return "%016x" % (self._bits(64) or 1)
        if bits == 128:
            return "%032x" % (self._bits(128) or 1)
        return f"{self._bits(bits) or 1:0{bits // 4}x}"

    def uniform(self) -> float:
        """A random number in [0, 1)."""
        return self._random.random()
