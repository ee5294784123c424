"""The topology tax: one boutique of eleven modules, together, split, and beside two peers.

python -m benchmarks.tax [--rounds N] [--cases memory database] [--per-s N] [--sides NAME ...]

The shape and the mix of requests are Online Boutique's, as in the Service Weaver paper
(Ghemawat et al., "Towards Modern Development of Cloud Applications", HotOS 2023). Sides are
measured in turns, while the others are held (SIGSTOP), so that what a product does at rest
counts for itself alone. In each turn a side is warmed up, left alone for a second, asked so
many requests a second by users who follow a schedule, and then asked as fast as it answers.
What is counted is the processor time of all its processes; PostgreSQL's is told apart, and
the load's, which comes from a process of its own, is not counted. One failed request ends it.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.boutique.shopping import shoppers
from benchmarks.boutique.sides import CASES, Postgres, Side, sides_of
from benchmarks.loading import Loaded, load_by_users
from benchmarks.measure import Figure, Noise, interleave, process_rss_mb
from benchmarks.servers.postgres import fresh_database, postgres_server

__all__ = ["main"]

USERS = 16
PACED_USERS = 8
PACED = 184
"""A deck of steps for each user, so that every run has the whole mix."""
FAST_S = 3.0
REST_S = 1.0
GOALS = {
    ("memory", "FastAPI", "Tenfold together"): "goal 9",
    ("memory", "FastAPI", "Tenfold split"): "goal 2.5",
}


@dataclass(frozen=True)
class Spent:
    """What some requests took of the processors, in milliseconds each, and how they went."""

    loaded: Loaded
    cpu_ms: float
    postgres_ms: float


@dataclass
class Measured:
    """One side, and what each turn of it showed."""

    side: Side
    postgres: Postgres
    per_s: float
    chance: random.Random
    fast: list[Spent] = field(default_factory=list)
    paced: list[Spent] = field(default_factory=list)
    rest_ms: list[float] = field(default_factory=list)

    def turn(self) -> float:
        """Let it go on, ask it, hold it again; returns its processor time for a request in ms."""
        self.side.release()
        warm = self._ask(PACED_USERS, PACED, 0.0)
        before = sum(self.side.cpu_s().values())
        time.sleep(REST_S)
        self.rest_ms.append((sum(self.side.cpu_s().values()) - before) / REST_S * 1000)
        self.paced.append(self._ask(PACED_USERS, PACED, self.per_s))
        count = int(warm.loaded.per_s * FAST_S)
        self.fast.append(self._ask(USERS, count, 0.0))
        self.side.hold()
        return self.fast[-1].cpu_ms

    def _ask(self, users: int, count: int, per_s: float) -> Spent:
        scripts = shoppers(self.side.port, users, count, self.chance.getrandbits(40))
        before, postgres = self.side.cpu_s(), self.postgres.cpu_s()
        loaded = load_by_users(self.side.port, scripts, per_s)
        after = self.side.cpu_s()
        if loaded.failed:
            raise RuntimeError(
                f"The run is void: {self.side.name} failed {loaded.failed} of "
                f"{loaded.failed + loaded.answered} requests. The first: {loaded.refusal}"
            )
        if before.keys() != after.keys():
            raise RuntimeError(f"The run is void: processes of {self.side.name} came or went.")
        cpu_s = sum(after.values()) - sum(before.values())
        postgres_s = self.postgres.cpu_s() - postgres
        return Spent(loaded, cpu_s / loaded.answered * 1e3, postgres_s / loaded.answered * 1e3)

    def figures(self) -> Iterator[Figure]:
        """Its rows of the table."""
        name, paced, fast = self.side.name, self.paced, self.fast
        at = f"{name}, {self.per_s:.0f}/s"
        yield Figure(f"{name}, at full load: CPU a request", "ms", [s.cpu_ms for s in fast])
        yield Figure(f"{name}, at full load: of PostgreSQL", "ms", [s.postgres_ms for s in fast])
        yield Figure(f"{name}, at full load", "req/s", [s.loaded.per_s for s in fast])
        yield Figure(f"{name}, at full load: p50", "ms", [s.loaded.p50_ms for s in fast])
        yield Figure(f"{at}: CPU a request", "ms", [s.cpu_ms for s in paced])
        yield Figure(f"{at}: of PostgreSQL", "ms", [s.postgres_ms for s in paced])
        yield Figure(f"{at}: p50", "ms", [s.loaded.p50_ms for s in paced])
        yield Figure(f"{at}: p99", "ms", [s.loaded.p99_ms for s in paced])
        yield Figure(f"{name}, at rest: CPU of all its processes", "ms/s", self.rest_ms)
        memory = sum(process_rss_mb(pid) for pid in self.side.pids)
        yield Figure(f"{name}: memory of its {len(self.side.pids)} processes", "MB", [memory])


def _ratios(case: str, sides: Mapping[str, Measured]) -> Iterator[Figure]:
    """What the peers spend in times of what Tenfold does, turn by turn."""
    for peer in ("FastAPI", "gRPC"):
        for ours in sides:
            if peer not in sides or not ours.startswith("Tenfold"):
                continue
            theirs, mine = sides[peer], sides[ours]
            what, goal = f"CPU: {peer} over {ours}", GOALS.get((case, peer, ours), "")
            yield Figure(f"{what}, at full load", "x", _over(theirs.fast, mine.fast), goal)
            yield Figure(f"{what}, paced", "x", _over(theirs.paced, mine.paced), goal)


def _over(theirs: Sequence[Spent], mine: Sequence[Spent]) -> list[float]:
    return [b.cpu_ms / a.cpu_ms for a, b in zip(mine, theirs, strict=True)]


def _measure(case: str, server: str, given: argparse.Namespace, noise: Noise) -> Iterator[Figure]:
    postgres = Postgres(server)
    chance = random.Random(20261129)
    with ExitStack() as stack:
        sides: dict[str, Measured] = {}
        for name, start in sides_of(case).items():
            if given.sides and name not in given.sides:
                continue
            url = stack.enter_context(fresh_database(server))
            side = stack.enter_context(start(url))
            # A process that is held does not hear that it is to end.
            stack.callback(side.release)
            sides[name] = Measured(side, postgres, given.per_s, chance)
            side.hold()
        print(f"\n{case}: {', '.join(sides)} are up.", flush=True)
        interleave({name: each.turn for name, each in sides.items()}, given.rounds, noise)
        for each in sides.values():
            yield from each.figures()
        yield from _ratios(case, sides)


def main() -> None:
    """Measure, and print each figure beside what it is compared with."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tax")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--per-s", type=float, default=40.0)
    parser.add_argument("--sides", nargs="*", default=[], help="all where none is named")
    given = parser.parse_args()
    noise = Noise()
    print(f"{'what':<58} {'median':>9} {'':<14} {'lowest':>8} .. {'highest':<8}")
    with postgres_server() as server:
        for case in given.cases:
            for figure in _measure(case, server, given, noise):
                print(figure.line(), flush=True)
    print(noise.line())


if __name__ == "__main__":
    main()
