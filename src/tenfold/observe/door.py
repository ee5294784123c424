"""The door's counters and gauges, for /metrics."""

from __future__ import annotations

from tenfold.observe.metrics import Counter, Gauge
from tenfold.path.door import Door

__all__ = ["door_metrics"]


def door_metrics(door: Door) -> list[Gauge | Counter]:
    """What the door of this process has done, as far as it does anything."""
    found: list[Gauge | Counter] = []
    if door.shedder is not None:
        counts = door.shedder.counts
        found += [
            Gauge(
                name="shedding_limit_messages",
                help="The most messages at once that the process takes on at present.",
                value=counts.limit,
            ),
            Gauge(
                name="shedding_present_messages",
                help="Messages that the process has in hand.",
                value=counts.present,
            ),
            *(
                Counter(
                    name="shedding_refused_messages",
                    help="Messages that were turned away: at their arrival, or stale.",
                    value=value,
                    labels={"why": why},
                )
                for why, value in (("full", counts.refused), ("stale", counts.stale))
            ),
        ]
    if door.rates is not None:
        found.append(
            Counter(
                name="limits_shared_failures",
                help="How often the shared counter of rate limits was given up for a while.",
                value=door.rates.failures,
            )
        )
    if door.backlogs is not None:
        found += [
            Gauge(
                name="backlog_full",
                help="1 while commands that feed the queue are turned away.",
                value=float(queue in door.backlogs.full),
                labels={"module": queue},
            )
            for queue in door.backlogs.watched
        ]
    return found
