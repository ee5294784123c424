"""How figures are taken: interleaved rounds, medians with their spread, and the machine's noise.

Two sides are never measured one after the other but in turns, round by round,
since a machine's speed drifts by more than most differences. What is compared
is the processor time of the server's process, which other load disturbs less
than the clock.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Figure",
    "Noise",
    "descendants",
    "part",
    "exact_cpu_s",
    "interleave",
    "process_cpu_s",
    "process_rss_mb",
]

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured thing: a value for each round."""

    name: str
    unit: str
    values: Sequence[float]
    goal: str = ""

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.values)

    def line(self) -> str:
        """The row of the table: name, median, the lowest and the highest round, goal."""
        low, high = min(self.values), max(self.values)
        return (
            f"{self.name:<58} {_short(self.median):>9} {self.unit:<14} "
            f"{_short(low):>8} .. {_short(high):<8} {self.goal}"
        )


def interleave(
    sides: Mapping[str, Callable[[], float]], rounds: int, noise: Noise
) -> dict[str, list[float]]:
    """Run every side once in each round, the first of them in turn; a value for each round."""
    names = list(sides)
    values: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        noise.probe()
        for at in range(len(names)):
            name = names[(at + number) % len(names)]
            values[name].append(sides[name]())
    return values


@dataclass
class Noise:
    """How evenly the machine runs: the same loop, timed again and again."""

    seconds: list[float] = field(default_factory=list)

    def probe(self) -> None:
        """Time the loop once more."""
        began = time.perf_counter()
        total = 0
        for number in range(300_000):
            total += number & 7
        self.seconds.append(time.perf_counter() - began)

    def line(self) -> str:
        """What the table says of it."""
        if not self.seconds:
            return "noise: not probed"
        low, high = min(self.seconds), max(self.seconds)
        load = os.getloadavg()[0]
        return (
            f"noise: the same loop took {low * 1000:.1f} to {high * 1000:.1f} ms, "
            f"{high / low:.2f} x; load {load:.1f} on {os.cpu_count()} processors"
        )


def process_cpu_s(pid: int) -> float:
    """Processor time of a process so far, user and system, all its threads (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def exact_cpu_s(pid: int) -> float:
    """Processor time of a process's living threads, finer than its clock's ticks (Linux)."""
    found = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(each.read_text().split()[0]) for each in found) / 1e9


def part(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of ordered ones lies, such as 0.99; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, down to the last that runs now (Linux)."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        children.setdefault(int(text.rsplit(")", 1)[1].split()[1]), []).append(
            int(stat.parent.name)
        )
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def process_rss_mb(pid: int) -> float:
    """Resident memory of a process in megabytes of 1,000,000 bytes (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"process {pid} has ended")


def _short(value: float) -> str:
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
