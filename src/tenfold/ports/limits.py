"""The port of rate limits: a counter that all processes of a product share."""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from tenfold.contracts.errors import TenfoldError

__all__ = [
    "CounterUnavailableError",
    "Grant",
    "Rate",
    "SharedCounter",
    "decide_grant",
    "parse_rate",
]

_UNITS_S = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(?:([1-9][0-9]{0,4}) ?)?(second|minute|hour|day)s?")


class CounterUnavailableError(TenfoldError):
    """The shared counter did not answer in time; whether it counted is not known."""

    code = "limits.counter_unavailable"


class Rate(msgspec.Struct, frozen=True):
    """So many in any `window_s` seconds."""

    limit: int
    window_s: int


class Grant(msgspec.Struct, frozen=True):
    """What a counter gave: how many, what is left of the window, and when more comes.

    `retry_s` is 0 where anything is left; else in how many seconds one more
    would be given, if nobody else took it.
    """

    granted: int
    left: int
    retry_s: float


class SharedCounter(Protocol):
    """Counts against rates, by key, for all processes at once; its own clock decides."""

    async def take(self, key: str, rate: Rate, wanted: int) -> Grant:
        """Take up to `wanted` at once; what is not granted is not counted.

        The sum of what is granted within one window never exceeds the limit,
        counted as `decide_grant` does.

        Args:
            key: whose; two rates never share one.
            wanted: 1 to the rate's limit.
        Raises: CounterUnavailableError (NOT_DONE) within the adapter's bound.
        """
        ...


def parse_rate(text: str) -> Rate | None:
    """Read `100/minute` or `5/10 seconds`; None where it is neither."""
    found = _RATE.fullmatch(text.strip())
    if found is None:
        return None
    return Rate(int(found[1]), int(found[2] or 1) * _UNITS_S[found[3]])


def decide_grant(rate: Rate, previous: int, current: int, into_s: float, wanted: int) -> Grant:
    """A sliding window from two fixed ones: what is granted of `wanted`.

    The window before counts by the share of it that the sliding one still
    covers, as if what came in it had come evenly. A key costs two numbers,
    where a window that remembers each moment costs one for each.

    Args:
        previous: granted in the fixed window before this one.
        current: granted in this one so far.
        into_s: seconds since it began, 0 to `window_s`.
    """
    limit, window_s = rate.limit, rate.window_s
    covered = 1.0 - into_s / window_s
    free = max(0, int(limit - current - previous * covered))
    granted = min(wanted, free)
    left = free - granted
    if left > 0:
        return Grant(granted, left, 0.0)
    current += granted
    if current < limit:  # the window before slides out until one is free
        share = (limit - 1 - current) / previous if previous else 1.0
        return Grant(granted, 0, max(0.0, (covered - share) * window_s))
    share = (limit - 1) / current  # of this one, once it is the one before
    return Grant(granted, 0, (covered + 1.0 - share) * window_s)
