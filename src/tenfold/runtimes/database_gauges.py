"""What a process tells of its connections to PostgreSQL, and of the replicas."""

from __future__ import annotations

from tenfold.adapters.postgres.pool import PoolStatistics
from tenfold.adapters.postgres.replicas import ReplicaState
from tenfold.observe.metrics import Counter, Gauge

__all__ = ["pool_metrics", "replica_metrics"]


def pool_metrics(pool: str, statistics: PoolStatistics) -> list[Gauge | Counter]:
    """One pool: what it holds now, and what it has seen.

    Args:
        pool: `primary`, or the replica's name.
    """
    labels = {"pool": pool}
    states = {
        "lent": statistics.open - statistics.idle,
        "idle": statistics.idle,
    }
    events = {
        "made": statistics.connected,
        "lost": statistics.lost,
        "failed": statistics.failed,
    }
    return [
        *(
            Gauge(
                name="pool_connections",
                help="Connections to a server: lent (or being made), idle.",
                value=value,
                labels={**labels, "state": state},
            )
            for state, value in states.items()
        ),
        Gauge(
            name="pool_size_connections",
            help="The most connections that the pool may have.",
            value=statistics.size,
            labels=labels,
        ),
        Gauge(
            name="pool_waiting_users",
            help="Those who wait for a connection.",
            value=statistics.waiting,
            labels=labels,
        ),
        *(
            Counter(
                name="pool_changes",
                help="Connections made, lost, and failed to be made.",
                value=value,
                labels={**labels, "event": event},
            )
            for event, value in events.items()
        ),
    ]


def replica_metrics(state: ReplicaState) -> list[Gauge | Counter]:
    """One replica, as this process sees it."""
    labels = {"replica": state.name}
    return [
        Gauge(
            name="replica_well",
            help="1 while queries may go to the replica, 0 while it is left out.",
            value=float(state.well),
            labels=labels,
        ),
        Gauge(
            name="replica_lag_seconds",
            help="Since when the replica lacks what the primary has written.",
            value=state.lag_s,
            labels=labels,
        ),
        Gauge(
            name="replica_replayed_bytes",
            help="How far the replica has replayed the primary's log.",
            value=state.replayed,
            labels=labels,
        ),
    ]
