"""What is metered."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from tenfold import Contract, Event, command

__all__ = ["Meter", "Metered", "Sampled"]

Few = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Metered(Event, key="meter"):
    """A meter has counted: `number` is one more each time."""

    meter: int
    number: int


class Sampled(Event, key="meter"):
    """The same, of every so manieth."""

    meter: int
    number: int


class Meter(Contract, Protocol):
    """Meters that count."""

    @command("POST /v1/readings", who="anyone", timeout_s=60)
    async def read(self, first: int, meters: Few, count: Few, samples: int = 0) -> None:
        """Let each of some meters count so often; the last few of them are samples too."""
        ...
