"""The stops of the path, each of which counts what passes it and how long that took."""

from __future__ import annotations

from bisect import bisect_left

from tenfold.contracts.structs import Struct

__all__ = ["BUCKETS_S", "Stop", "StopCount", "Stops"]

BUCKETS_S: tuple[float, ...] = (
    0.000_05,
    0.000_1,
    0.000_25,
    0.000_5,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
)
"""Upper bounds of the histogram's buckets, in seconds, inclusive; a last one has no bound."""


class StopCount(Struct):
    """What passed a stop under one label with one outcome.

    `buckets` has one count for each bound of `BUCKETS_S` and one above them all;
    they are not cumulative. `count` is their sum, `seconds` the time of all together.
    """

    label: str
    outcome: str
    count: int
    seconds: float
    buckets: tuple[int, ...]


class Stop:
    """One stop of the path: edge, admit, handle, unit_of_work, outbox, relay, queue, projection.

    Counting costs two dictionary look-ups and a bisection, and takes no lock: a
    stop is observed from one thread, and a reader on another may see a count
    that is one behind its time.
    """

    __slots__ = ("_cells", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        # One flat list for each pair: [bucket counts ..., seconds]. A list is the cheapest
        # thing to add to in place; an object with attributes cost half as much again.
        self._cells: dict[str, dict[str, list[float]]] = {}

    def observe(self, label: str, outcome: str, seconds: float) -> None:
        """Count one passage.

        Args:
            label: what passed, from a set that is known at start (operation, handler, module).
            outcome: how it ended, from a small fixed set such as `ok`, `refused`, `fault`.
            seconds: how long it took, 0 or more.
        """
        try:
            cell = self._cells[label][outcome]
        except KeyError:
            cell = self._cell(label, outcome)
        cell[bisect_left(BUCKETS_S, seconds)] += 1
        cell[-1] += seconds

    def snapshot(self) -> list[StopCount]:
        """What has passed so far, in order of label, then outcome."""
        return [
            StopCount(
                label=label,
                outcome=outcome,
                count=int(sum(cell[:-1])),
                seconds=cell[-1],
                buckets=tuple(int(n) for n in cell[:-1]),
            )
            for label, outcomes in sorted(self._cells.copy().items())
            for outcome, cell in sorted(outcomes.copy().items())
        ]

    def _cell(self, label: str, outcome: str) -> list[float]:
        cell: list[float] = [0] * (len(BUCKETS_S) + 1) + [0.0]
        return self._cells.setdefault(label, {}).setdefault(outcome, cell)


class Stops:
    """One `Stop` for each stop of the path, shared by all modules of a process."""

    def __init__(self) -> None:
        self.edge = Stop("edge")
        self.admit = Stop("admit")
        self.handle = Stop("handle")
        self.unit_of_work = Stop("unit_of_work")
        self.outbox = Stop("outbox")
        self.relay = Stop("relay")
        self.queue = Stop("queue")
        self.projection = Stop("projection")

    def all(self) -> list[Stop]:
        """In the order of the path."""
        return [
            self.edge,
            self.admit,
            self.handle,
            self.unit_of_work,
            self.outbox,
            self.relay,
            self.queue,
            self.projection,
        ]
