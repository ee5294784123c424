"""What a worker works with and what it holds: claims that live, and the runs of their entries."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from tenfold.contracts.structs import Struct
from tenfold.path.declare import Background
from tenfold.path.stops import Stop
from tenfold.ports.clock import Clock, Ids
from tenfold.ports.queue import Queue
from tenfold.ports.records import Claimed, Finish

__all__ = ["Batch", "Run", "WorkerCounts", "WorkerLimits", "WorkerParts", "size_of"]

Handle = Callable[[Claimed, int], Awaitable[None] | None]
"""Handles one entry under a fence, until its effect is committed, or was before: None where it
has ended already, else what is to be awaited, in the same task."""


class WorkerLimits(Struct):
    """How much a worker takes on.

    `batch` entries are claimed at most at once, 1 to 500, and as many may wait in the worker to
    be begun; how many it does claim follows how fast it works. `concurrency` runs are worked
    beside one another. `lease_s` is renewed at a third of its time.
    `poll_s` is the longest sleep without a signal. `unknown_s` is how long an
    entry waits whose handler this version of the code does not know.
    """

    batch: int = 200
    concurrency: int = 64
    lease_s: float = 30.0
    poll_s: float = 5.0
    unknown_s: float = 60.0


class WorkerParts(Struct):
    """What a worker works with.

    `backgrounds` are the handlers that this code has, by name. `obsolete` says
    that an entry's work has lost its point, such as that of a projection's
    dropped generation: it is done without being handled.
    """

    module: str
    queue: Queue
    handle: Handle
    backgrounds: Mapping[str, Background]
    clock: Clock
    ids: Ids
    stop: Stop
    limits: WorkerLimits = WorkerLimits()
    obsolete: Callable[[Claimed], bool] | None = None


class WorkerCounts:
    """Entries that a worker has seen since it was made, by what became of them."""

    __slots__ = ("claimed", "dead", "done", "lost", "retried", "returned", "unknown")

    def __init__(self) -> None:
        self.claimed = 0
        self.done = 0
        self.retried = 0
        self.dead = 0
        self.returned = 0
        self.unknown = 0
        self.lost = 0


class Batch:
    """One live claim: how many of its entries are open, and what became of the others.

    What has ended gathers here until a turn records it. `renewed_s` and
    `reported_s` are on the event loop's clock.
    """

    __slots__ = (
        "dead",
        "done",
        "fence",
        "holding",
        "lost",
        "open",
        "postponed",
        "renewed_s",
        "reported_s",
        "retries",
        "returned",
    )

    def __init__(self, fence: int, size: int, renewed_s: float) -> None:
        self.fence = fence
        self.open = size
        """Entries of which the store does not know yet what became of them."""
        self.renewed_s = self.reported_s = renewed_s
        self.lost = False
        self._forget()

    def _forget(self) -> None:
        self.done: list[int] = []
        self.retries: dict[int, tuple[datetime, str]] = {}
        self.dead: dict[int, str] = {}
        self.holding: list[int] = []
        self.returned: list[int] = []
        self.postponed: dict[int, tuple[datetime, str]] = {}

    @property
    def has_ended(self) -> bool:
        """Whether there is something for the next turn to record."""
        return bool(self.done or self.retries or self.dead or self.returned or self.postponed)

    @property
    def ended(self) -> int:
        """How many entries have ended that no turn has recorded."""
        ended = (self.done, self.retries, self.dead, self.returned, self.postponed)
        return sum(map(len, ended))

    def take_ended(self) -> Finish:
        """What has ended since the last turn; what ends from now on gathers afresh."""
        finish = Finish(
            fence=self.fence,
            done=self.done,
            retries=self.retries,
            dead=self.dead,
            holding=self.holding,
            returned=self.returned,
            postponed=self.postponed,
        )
        self.open -= size_of(finish)
        self._forget()
        return finish

    def put_back(self, finish: Finish) -> None:
        """Take back what a failed turn may not have recorded. Recording it twice is harmless."""
        self.open += size_of(finish)
        self.done = finish.done + self.done
        self.retries = {**finish.retries, **self.retries}
        self.dead = {**finish.dead, **self.dead}
        self.holding = finish.holding + self.holding
        self.returned = finish.returned + self.returned
        self.postponed = {**finish.postponed, **self.postponed}


class Run:
    """Entries of one lane of one claim that are still to be worked, in order."""

    __slots__ = ("batch", "began_s", "current", "entries")

    def __init__(self, batch: Batch, entries: list[Claimed]) -> None:
        self.batch = batch
        self.entries = entries
        self.current: Claimed | None = None
        """The one that is being handled, since `began_s` on the clock's monotonic side."""
        self.began_s = 0.0


def size_of(finish: Finish) -> int:
    """How many entries a finish names."""
    ended = (finish.done, finish.retries, finish.dead, finish.returned, finish.postponed)
    return sum(map(len, ended))
