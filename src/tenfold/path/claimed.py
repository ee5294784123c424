"""What a worker holds: claims that live, and the runs of their entries."""

from __future__ import annotations

from datetime import datetime

from tenfold.ports.records import Claimed, Finish

__all__ = ["Batch", "Run"]


class Batch:
    """One live claim: how many of its entries are open, and what became of the others.

    What has ended gathers here until a turn records it. `renewed_s` is on the
    event loop's clock.
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
        "retries",
        "returned",
    )

    def __init__(self, fence: int, size: int, renewed_s: float) -> None:
        self.fence = fence
        self.open = size
        """Entries of which the store does not know yet what became of them."""
        self.renewed_s = renewed_s
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
        self.open -= _size(finish)
        self._forget()
        return finish

    def put_back(self, finish: Finish) -> None:
        """Take back what a failed turn may not have recorded. Recording it twice is harmless."""
        self.open += _size(finish)
        self.done = finish.done + self.done
        self.retries = {**finish.retries, **self.retries}
        self.dead = {**finish.dead, **self.dead}
        self.holding = finish.holding + self.holding
        self.returned = finish.returned + self.returned
        self.postponed = {**finish.postponed, **self.postponed}


class Run:
    """Entries of one lane of one claim that are still to be worked, in order."""

    __slots__ = ("batch", "current", "entries")

    def __init__(self, batch: Batch, entries: list[Claimed]) -> None:
        self.batch = batch
        self.entries = entries
        self.current: Claimed | None = None


def _size(finish: Finish) -> int:
    ended = (finish.done, finish.retries, finish.dead, finish.returned, finish.postponed)
    return sum(map(len, ended))
