"""The cache's counters and gauges, for /metrics."""

from __future__ import annotations

from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.caching import Caching
from tenfold.path.dropping import Drops

__all__ = ["cache_metrics"]

_ANSWERS = {
    "first": "first_tier",
    "shared": "shared_tier",
    "confirmed": "confirmed",
    "computed": "computed",
    "stale": "stale",
}
_FILLS = {
    "early": "early",
    "outdated": "outdated",
    "failed": "failed",
    "passed": "passed_by",
    "without": "without_shared_tier",
}


def cache_metrics(
    caching: Caching, drops: Drops, *, entries: int, held_bytes: int, evicted: int
) -> list[Gauge | Counter]:
    """What the cache has counted in this process.

    Args:
        entries: answers in the first tier.
        held_bytes: what they take.
        evicted: answers that had to leave for others.
    """
    found: list[Gauge | Counter] = []
    for target, counts in caching.counts().items():
        for field, tier in _ANSWERS.items():
            found.append(
                Counter(
                    name="cache_answers",
                    help="Answers of queries that are kept, by where they came from. Those of the "
                    "first tier are counted one by one, the others once for all who waited.",
                    value=getattr(counts, field),
                    labels={"target": target, "from": tier},
                )
            )
        for field, event in _FILLS.items():
            found.append(
                Counter(
                    name="cache_fills",
                    help="What befell fills: begun early, outdated when they ended, failed, kept "
                    "answers passed by for who had seen more, the shared tier away.",
                    value=getattr(counts, field),
                    labels={"target": target, "event": event},
                )
            )
    return [
        *found,
        Counter(
            name="cache_dropped_commits",
            help="Commits that dropped kept answers: at once, or left to the queue.",
            value=drops.told - drops.left,
            labels={"outcome": "at_once"},
        ),
        Counter(
            name="cache_dropped_commits",
            help="Commits that dropped kept answers: at once, or left to the queue.",
            value=drops.left,
            labels={"outcome": "later"},
        ),
        Gauge(
            name="cache_first_tier_live",
            help="1 while the process keeps answers, 0 while it could miss what others drop.",
            value=float(caching.first_tier_live),
        ),
        Gauge(name="cache_held_entries", help="Answers in the first tier.", value=entries),
        Gauge(name="cache_held_bytes", help="What they take.", value=held_bytes),
        Counter(
            name="cache_evicted_entries",
            help="Answers that left the first tier for others.",
            value=evicted,
        ),
    ]
