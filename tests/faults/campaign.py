"""A campaign of kills: which, in what order, and what came of them."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.faults.journal import Journal, Load
from tests.faults.judge import await_settled, complaints, unfinished
from tests.faults.store_process import StoreProcess, free_port, product_file
from tests.faults.victim import POINTS

__all__ = ["RANDOM", "Campaign", "decide_kills"]

RANDOM = "at random"
_RARE = ("scheduled", "schedule run")


def decide_kills(rng: Random, size: str) -> list[list[str]]:
    """The points of each segment: a segment's kills meet the same data, and are judged together.

    A run of the schedule survives two lost claims and no third, by its declaration, so at
    most one kill of a segment is aimed at it.
    """
    if size == "small":
        kills = [*rng.sample(POINTS, 6), RANDOM, RANDOM]
        length = 4
    else:
        kills = [*POINTS * 3, *[RANDOM] * 45]
        length = 6
    rng.shuffle(kills)
    common = [kill for kill in kills if kill not in _RARE]
    rare = [kill for kill in kills if kill in _RARE]
    count = max(1, round(len(kills) / length), len(rare))
    segments = [common[i::count] for i in range(count)]
    for segment, kill in zip(segments, rare, strict=False):
        segment.insert(rng.randrange(len(segment) + 1), kill)
    return segments


class Campaign:
    """Runs segments, counts kills, and collects what the judge says."""

    def __init__(self, folder: Path, rng: Random) -> None:
        self._folder = folder
        self._settings = product_file(folder)
        self._rng = rng
        self.kills: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.verdicts: list[str] = []
        self.orders = 0
        self.commands = 0
        self.retried = 0
        self.started_s = time.monotonic()

    def segment(self, number: int, points: list[str]) -> None:
        """Kill the store at each of these points in turn, then let it settle, and judge."""
        data, port, journal = self._folder / f"data-{number}", free_port(), Journal()
        load = Load(journal, port, self._rng)
        left = list(points)
        misses = 0
        while left:
            point = left.pop(0)
            if not self._life(data, port, load, point):
                misses += 1
                self.missed[point] += 1
                if misses <= len(points):
                    left.append(point)
        with StoreProcess(data, port, trap=("none", 1, "ready"), settings=self._settings) as store:
            assert store.await_ready(), store.tail()
            load.settle()
            found = [f"unfinished: {text}" for text in await_settled(data)]
            found += complaints(journal, port, data)
            code = store.stop()
            if code != 0:
                found.append(f"it ended with {code}: {store.tail()}")
            found += [f"unfinished at the end: {text}" for text in unfinished(data)[:5]]
        self.verdicts += [f"segment {number} ({', '.join(points)}): {text}" for text in found]
        self.orders += len(journal.told("order"))
        self.commands += len(journal.sent)
        self.retried += sum(sent.tries > 1 for sent in journal.sent)

    def _life(self, data: Path, port: int, load: Load, point: str) -> bool:
        """One life under load and its end; whether it ended where it was meant to."""
        rng = self._rng
        armed = "start" if rng.random() < 0.25 else "ready"
        number = rng.randrange(1, 3 if point in _RARE else 16)
        trap = ("none", 1, armed) if point == RANDOM else (point, number, armed)
        with StoreProcess(data, port, trap=trap, settings=self._settings) as store:
            load.start()
            try:
                if point == RANDOM:
                    code = store.await_end(rng.random() * 2.0)
                else:
                    code = store.await_end(6.0)
            finally:
                store.kill()
                load.stop()
            hit = code is not None and f"KILLED at {point}" in store.tail()
            if code is None:
                self.kills[RANDOM] += 1
                return point == RANDOM
            if not hit or code != -9:
                self.verdicts.append(f"the process ended with {code} by itself: {store.tail()}")
            self.kills[point] += 1
            return True

    def table(self) -> str:
        """Kills by point, and what it took."""
        took_s = time.monotonic() - self.started_s
        total = sum(self.kills.values())
        lines = [f"  {self.kills[point]:4}  {point}" for point in (*POINTS, RANDOM)]
        return "\n".join(
            [
                "kills",
                *lines,
                f"  {total:4}  in all, {took_s:.0f} s, {took_s / max(total, 1):.2f} s a kill",
                f"{self.commands} commands ({self.orders} orders), {self.retried} sent again",
                f"{sum(self.missed.values())} times a point was not reached",
            ]
        )
