"""What a process has seen of the services that it calls, for /metrics."""

from __future__ import annotations

from tenfold.observe.metrics import Counter, Gauge
from tenfold.ports.peers import ServiceStatistics

__all__ = ["service_metrics"]


def service_metrics(seen: ServiceStatistics) -> list[Gauge | Counter]:
    """The series of one service."""
    labels = {"service": seen.service}
    found: list[Gauge | Counter] = [
        Gauge(
            name="service_outstanding_calls",
            help="Calls of this process that wait for the service.",
            value=seen.outstanding,
            labels=labels,
        )
    ]
    found += (
        Counter(
            name="service_repeated_calls",
            help="Calls that were sent a second time, or would have been within the budget.",
            value=getattr(seen, why),
            labels={**labels, "why": why},
        )
        for why in ("retries", "hedges", "unbudgeted")
    )
    found += (
        Gauge(
            name="service_connected_processes",
            help="Processes of the service with a connection, by how they are treated.",
            value=number,
            labels={**labels, "state": state},
        )
        for state, number in seen.endpoints.items()
    )
    for operation in seen.operations:
        of = {**labels, "target": operation.target}
        found.append(
            Gauge(
                name="service_circuit_open",
                help="1 while the operation fails everywhere and is not asked but for probes.",
                value=float(operation.circuit != "closed"),
                labels=of,
            )
        )
        found += (
            Counter(
                name="service_calls",
                help="Calls to the service, by how they ended.",
                value=number,
                labels={**of, "outcome": outcome},
            )
            for outcome, number in operation.outcomes.items()
        )
    return found
