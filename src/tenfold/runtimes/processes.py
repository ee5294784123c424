"""The processes of one machine: which there are, and when one that ended is started again.

What is here decides and does nothing; `supervisor` and `slots` carry it out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from tenfold.contracts.structs import Struct
from tenfold.runtimes.roles import Role
from tenfold.runtimes.settings import ProcessSettings, ServiceSettings

__all__ = [
    "PlannedProcess",
    "Splitting",
    "decide_failures",
    "decide_hung_beats",
    "decide_names_here",
    "decide_processes",
    "decide_restart",
    "decide_order",
]

_MOST_DOUBLINGS = 30
_LEAST_BEATS = 3


class Splitting(Struct):
    """What a process hosts though a service does too: that service, and its share of the calls."""

    service: str
    share: float


class PlannedProcess(Struct):
    """One process that there is to be: its name, which it keeps through restarts, and its role."""

    name: str
    role: Role
    service: str = ""
    """The service that it is of; empty for a gateway, and for web processes that host modules."""
    splitting: Splitting | None = None
    """Set while a module is on its way out of the web processes, or back."""

    @property
    def serves(self) -> bool:
        """Whether it answers requests over HTTP."""
        return self.role is not Role.WORKER and not self.service


def decide_processes(
    settings: ProcessSettings, services: Mapping[str, ServiceSettings] | None = None
) -> tuple[PlannedProcess, ...]:
    """The processes that the settings mean; web processes do both where there are no workers."""
    if services and not settings.modules:
        return (*_gateways(settings), *_of_services(services))
    role = Role.WEB if settings.workers else Role.ALL
    web = [PlannedProcess(name=f"web-{n + 1}", role=role) for n in range(settings.web)]
    workers = [
        PlannedProcess(name=f"worker-{n + 1}", role=Role.WORKER) for n in range(settings.workers)
    ]
    return (*web, *workers, *_of_services(services or {}))


def decide_names_here(services: Mapping[str, ServiceSettings]) -> tuple[str, ...]:
    """The services of which this machine runs anything."""
    return tuple(dict.fromkeys(process.service for process in _of_services(services)))


def _gateways(settings: ProcessSettings) -> Iterator[PlannedProcess]:
    for n in range(settings.web):
        yield PlannedProcess(name=f"gateway-{n + 1}", role=Role.WEB)


def _of_services(services: Mapping[str, ServiceSettings]) -> Iterator[PlannedProcess]:
    for service, settings in services.items():
        role = Role.WEB if settings.workers else Role.ALL
        for n in range(settings.replicas):
            yield PlannedProcess(name=f"{service}-{n + 1}", role=role, service=service)
        for n in range(settings.workers):
            yield PlannedProcess(
                name=f"{service}-worker-{n + 1}", role=Role.WORKER, service=service
            )


def decide_failures(failures: int, *, served_s: float | None, settings: ProcessSettings) -> int:
    """How many times in a row a process has failed, now that it ended by itself.

    Args:
        failures: before this end.
        served_s: seconds from ready to end; None where it was never ready.
    Returns: 1 after it has served for as long as the longest wait, since that
        was no failing start; else one more.
    """
    if served_s is not None and served_s >= settings.restart_max_s:
        return 1
    return failures + 1


def decide_restart(failures: int, *, chance: float, settings: ProcessSettings) -> float:
    """Seconds until a process that ended by itself is started again.

    Doubled at each failure in a row, and between half and all of that by chance,
    so that processes which fell together do not come back together.

    Args:
        failures: in a row, at least 1.
        chance: from 0 to 1.
    """
    doublings = min(failures - 1, _MOST_DOUBLINGS)
    wait_s = min(settings.restart_min_s * 2.0**doublings, settings.restart_max_s)
    return wait_s * (0.5 + chance / 2)


def decide_hung_beats(hung_s: float, *, beat_s: float) -> int | None:
    """After how many beats that did not come a process counts as hung; None for never.

    Beats are counted and not seconds, so that a supervisor that was itself
    stopped, with its machine or alone, takes nobody for hung when it goes on.

    Args:
        hung_s: as set; 0 for never.
        beat_s: from one beat to the next.
    """
    return max(_LEAST_BEATS, math.ceil(hung_s / beat_s)) if hung_s else None


def decide_order(wanted: Sequence[PlannedProcess]) -> tuple[PlannedProcess, ...]:
    """In which order processes are replaced, one at a time.

    Workers and services go first: new code understands what old code has published, while
    what new code publishes should find workers that know it.
    """
    return tuple(sorted(wanted, key=lambda process: process.serves))
