"""Packs: what one round of an outbox becomes on its way into the partitions of a topic.

Every round puts at least one pack into every partition, an empty one where none of its
events belongs there. A pack says which stretch of the log it stands for: all events of
its partition after `after` and up to `upto` are in it. So a reader that has reached a
position in every partition has everything up to the least of them, in the order of the
log; a pack that came twice, or from a publisher that was late, is known by its stretch;
and one that is missing shows as a gap, which nothing else would tell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

from tenfold.contracts.structs import Struct
from tenfold.ports.partitions import partition_of

__all__ = [
    "Mark",
    "Packable",
    "Plan",
    "decide_packs",
    "decide_passage",
    "halves",
    "mark_headers",
    "read_mark",
]

_BRACKETS: Final = 2


class Mark(Struct):
    """The stretch of a log that a pack stands for, and which log it is.

    `of` is among how many partitions its publisher put the events of that stretch.
    """

    epoch: str
    after: int
    upto: int
    of: int


class Packable(Struct):
    """One event, encoded. Those with an equal `key` go to one partition, in order."""

    seq: int
    key: str
    body: bytes


class Plan(Struct):
    """One pack: its stretch, and the numbers of its events in what was to be packed."""

    after: int
    upto: int
    events: tuple[int, ...]


def decide_packs(
    events: Sequence[Packable], after: int, upto: int, partitions: int, max_bytes: int
) -> list[list[Plan]]:
    """The packs of one round, by partition, each partition's in the order in which to append them.

    Args:
        events: all of the log after `after` and up to `upto`, in its order.
        max_bytes: that a pack may have; an event that has more is a pack of its own.
    """
    placed: list[list[int]] = [[] for _ in range(partitions)]
    for number, event in enumerate(events):
        placed[partition_of(event.key.encode(), partitions)].append(number)
    return [_split(events, numbers, after, upto, max_bytes) for numbers in placed]


def _split(
    events: Sequence[Packable], numbers: Sequence[int], after: int, upto: int, max_bytes: int
) -> list[Plan]:
    packs: list[Plan] = []
    pack: list[int] = []
    size = _BRACKETS
    for number in numbers:
        more = len(events[number].body) + 1
        if pack and size + more > max_bytes:
            end = events[pack[-1]].seq
            packs.append(Plan(after=after, upto=end, events=tuple(pack)))
            after, pack, size = end, [], _BRACKETS
        pack.append(number)
        size += more
    packs.append(Plan(after=after, upto=upto, events=tuple(pack)))
    return packs


def halves(plan: Plan, events: Sequence[Packable]) -> list[Plan]:
    """A pack of several events as two."""
    middle = len(plan.events) // 2
    end = events[plan.events[middle - 1]].seq
    return [
        Plan(after=plan.after, upto=end, events=plan.events[:middle]),
        Plan(after=end, upto=plan.upto, events=plan.events[middle:]),
    ]


def decide_passage(
    reached: int, partitions: int, mark: Mark
) -> Literal["old", "new", "gap", "grown"]:
    """What a reader that has reached a position in a partition does with its next pack.

    Args:
        partitions: how many it reads, and merges.

    Returns: `old` where it has it all, `gap` where something before it is missing, `grown`
        where some of the stretch lies in partitions that it does not read, else `new`: of
        its events those after the position are.
    """
    if mark.upto <= reached:
        return "old"
    if mark.of != partitions:
        return "grown"
    return "gap" if mark.after > reached else "new"


def mark_headers(mark: Mark) -> dict[str, str]:
    """A mark as headers of a record."""
    return {
        "epoch": mark.epoch,
        "after": str(mark.after),
        "upto": str(mark.upto),
        "of": str(mark.of),
    }


def read_mark(headers: Mapping[str, str]) -> Mark | None:
    """The mark of a record; None where it has none, so that it is nothing of ours."""
    epoch = headers.get("epoch", "")
    numbers = [headers.get(name, "") for name in ("after", "upto", "of")]
    if not epoch or not all(number.isdecimal() for number in numbers):
        return None
    after, upto, of = map(int, numbers)
    return Mark(epoch=epoch, after=after, upto=upto, of=of)
