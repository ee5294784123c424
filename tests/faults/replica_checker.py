"""Checks recorded histories: who missed its own write, and for whom time went backwards."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import accumulate

from tests.faults.replica_callers import Seen

__all__ = ["violations"]


def violations(history: Sequence[Seen]) -> list[str]:
    """What no caller may see, one sentence each; empty where all is well.

    Values of a thing only grow. Checked are: nobody reads less than it wrote; nobody reads
    less than it had read; a register's number is given once; a read shows nothing that nobody
    had begun to write; and who carries no token sees all that was answered before it asked.
    """
    return [*_own(history), *_numbers(history), *_current(history)]


def _own(history: Sequence[Seen]) -> Iterator[str]:
    wrote: dict[tuple[str, str], int] = defaultdict(int)
    read: dict[tuple[str, str], int] = defaultdict(int)
    for seen in history:
        key = (seen.caller, seen.thing)
        if seen.did == "wrote":
            wrote[key] = max(wrote[key], seen.value)
            continue
        if seen.value < wrote[key]:
            yield f"{seen.caller} wrote {wrote[key]} to {seen.thing} and then read {seen.value}"
        elif seen.value < read[key]:
            yield f"{seen.caller} read {read[key]} of {seen.thing} and then {seen.value}"
        read[key] = max(read[key], seen.value)


def _numbers(history: Sequence[Seen]) -> Iterator[str]:
    given: dict[str, set[int]] = defaultdict(set)
    for seen in _shared(history):
        if seen.did == "wrote":
            if seen.value in given[seen.thing]:
                yield f"{seen.value} of {seen.thing} was given twice"
            given[seen.thing].add(seen.value)
    for seen in _shared(history):
        if seen.did == "read" and seen.value > max(given[seen.thing], default=0):
            yield f"{seen.caller} read {seen.value} of {seen.thing}, which nobody was told of"


def _current(history: Sequence[Seen]) -> Iterator[str]:
    writes: dict[str, list[Seen]] = defaultdict(list)
    for seen in _shared(history):
        if seen.did == "wrote":
            writes[seen.thing].append(seen)
    ends: dict[str, list[float]] = {}
    highest: dict[str, list[int]] = {}
    for thing, some in writes.items():
        some.sort(key=lambda seen: seen.ended_s)
        ends[thing] = [seen.ended_s for seen in some]
        highest[thing] = list(accumulate((seen.value for seen in some), max))
    for seen in _shared(history):
        if seen.did == "read" and seen.caller.startswith("naive") and seen.thing in ends:
            before = bisect_left(ends[seen.thing], seen.began_s)
            if before and seen.value < highest[seen.thing][before - 1]:
                yield (
                    f"{seen.caller}, without a token, read {seen.value} of {seen.thing}, of which "
                    f"{highest[seen.thing][before - 1]} was told before it asked"
                )


def _shared(history: Sequence[Seen]) -> Iterator[Seen]:
    """What was noted of registers, which all callers share."""
    return (seen for seen in history if " " not in seen.thing)
