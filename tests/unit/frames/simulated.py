"""A service of several replicas on simulated time, asked by the real decisions."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence

from tenfold.adapters.frames.balancing import Standing, decide_choice
from tenfold.adapters.frames.latencies import Latencies

Wait = Callable[[random.Random], float]


class _Replica:
    def __init__(self, wait: Wait, at_once: int) -> None:
        self.wait = wait
        self.standing = Standing()
        self.free = at_once
        self.queue: deque[tuple[float, int]] = deque()


def simulate(
    waits: Sequence[Wait], *, per_s: float, seconds: float, at_once: int, seed: int
) -> list[float]:
    """Ask replicas at random moments, as many a second; latencies from when each was due.

    Each replica works on `at_once` calls at a time and lets others wait, in order.
    """
    draw = random.Random(seed)
    replicas = [_Replica(wait, at_once) for wait in waits]
    latencies, found = Latencies(), []
    events: list[tuple[float, int, int, float, int]] = []
    serial, now_s = 0, 0.0

    def begin(at_s: float, which: int, came_s: float, number: int) -> None:
        nonlocal serial
        serial += 1
        replica = replicas[which]
        replica.free -= 1
        heapq.heappush(events, (at_s + replica.wait(draw), serial, which, came_s, number))

    while now_s < seconds or events:
        next_s = now_s + draw.expovariate(per_s) if now_s < seconds else float("inf")
        while events and events[0][0] <= next_s:
            at_s, _, which, came_s, number = heapq.heappop(events)
            replica = replicas[which]
            replica.standing.end(number)
            latencies.note(at_s - came_s)
            replica.standing.answered(at_s, (at_s - came_s) / latencies.usual_s)
            found.append(at_s - came_s)
            replica.free += 1
            if replica.queue:
                begin(at_s, which, *replica.queue.popleft())
        if next_s == float("inf"):
            break
        now_s = next_s
        one, other = draw.sample(range(len(replicas)), 2)
        standing = replicas[one].standing
        load = sum(each.standing.outstanding for each in replicas) / len(replicas)
        chosen = decide_choice(standing, replicas[other].standing, now_s, load, draw.random())
        which = one if chosen is standing else other
        number = chosen.begin(now_s, latencies)
        if replicas[which].free:
            begin(now_s, which, now_s, number)
        else:
            replicas[which].queue.append((now_s, number))
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """The value that so large a part of them does not exceed."""
    return sorted(values)[min(int(part * len(values)), len(values) - 1)]
