"""A split as it is planned, and how each of its steps is judged. Decides, and does nothing."""

from __future__ import annotations

from typing import Final

import msgspec

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.path.splitting import SplitCounts
from tenfold.runtimes.hosting import WEB
from tenfold.runtimes.places import nearest
from tenfold.runtimes.processes import PlannedProcess, Splitting
from tenfold.runtimes.splits.asked import SplitAsked
from tenfold.runtimes.topology import ProductFile, Topology

__all__ = [
    "SHARES",
    "Hosting",
    "Side",
    "decide_both",
    "decide_hosting",
    "decide_verdict",
    "side_of",
]

SHARES: Final = (0.01, 0.05, 0.25, 0.5, 1.0)
"""What goes the new way, step after step."""
_FOR_SURE: Final = 3
"""So many faults are no chance, before a step is over."""


class Hosting(Struct):
    """Who is to host what: the web processes, and one service or none any more of that name.

    `modules` of the web processes are empty where they host all.
    """

    topology: str
    modules: tuple[str, ...]
    service: str
    hosts: tuple[str, ...] = ()
    replicas: int = 1
    workers: int = 0


class Side(Struct):
    """The calls of a step that went one way, and how many of them failed there."""

    calls: int
    faults: int


def decide_hosting(asked: SplitAsked, source: ProductFile) -> Hosting:
    """Who hosts what afterwards. Raises: UserMistakeError where that cannot be.

    Args:
        source: the topology file, as the product runs by it.
    """
    topology = source.topology
    if asked.module not in source.modules:
        raise _mistake(
            f"{source.name} has no module {asked.module!r}. {nearest(asked.module, source.modules)}"
        )
    if not topology.shared:
        raise _mistake(
            f"The topology {topology.name!r} keeps its data in SQLite, which one process has to "
            "itself. Move to PostgreSQL first: `tenfold move`."
        )
    homes = {m: name for name, group in topology.groups.items() for m in group.modules}
    home = homes.get(asked.module, WEB)
    return _back(asked, topology, home) if asked.back else _out(asked, source, home)


def _out(asked: SplitAsked, source: ProductFile, home: str) -> Hosting:
    topology = source.topology
    service = asked.service or asked.module
    if home != WEB:
        raise _mistake(f"{asked.module} is in the service {home!r} already.")
    if service in topology.services:
        raise _mistake(f"There is a service {service!r} already. Name another one with --service.")
    hosted = topology.processes.modules or tuple(source.modules)
    rest = tuple(module for module in hosted if module != asked.module)
    if not rest:
        raise _mistake(f"{asked.module} is the last module that the web processes host.")
    return Hosting(
        topology=topology.name,
        modules=rest,
        service=service,
        hosts=(asked.module,),
        replicas=asked.replicas,
        workers=asked.workers,
    )


def _back(asked: SplitAsked, topology: Topology, home: str) -> Hosting:
    if home == WEB:
        raise _mistake(f"{asked.module} is in no service: the web processes host it.")
    if not topology.processes.modules:
        raise _mistake(
            f"The web processes of the topology {topology.name!r} are gateways, which host no "
            "module."
        )
    others = topology.services[home].modules
    if others != (asked.module,):
        raise _mistake(
            f"The service {home!r} hosts other modules too: {', '.join(others)}. Only a module "
            "with a service of its own can be taken back."
        )
    left = len(topology.services) > 1
    return Hosting(
        topology=topology.name,
        modules=(*topology.processes.modules, asked.module) if left else (),
        service=home,
    )


def decide_both(source: ProductFile, service: str, share: float) -> tuple[PlannedProcess, ...]:
    """The web processes and workers as they are while they host what a service does too.

    Args:
        source: the topology file in which the module has that service.
        share: of the calls of that module which goes to the service.
    """
    splitting = Splitting(service=service, share=share)
    return tuple(
        msgspec.structs.replace(each, splitting=splitting)
        for each in source.topology.planned
        if not each.service
    )


def side_of(counts: SplitCounts, *, service: bool) -> Side:
    """One side of what was counted."""
    if service:
        return Side(calls=counts.service, faults=counts.service_faults)
    return Side(calls=counts.here, faults=counts.here_faults)


def decide_verdict(new: Side, old: Side, most_faults: float, *, over: bool) -> bool:
    """Whether a step is to be taken back, by how the calls of both ways did in it.

    A fault that both ways have alike is none of the new one. Before a step is over one fault,
    or two, may be chance.

    Args:
        most_faults: the part of calls that may fail on the new way, beyond what fails on the old.
        over: whether nothing more will be seen of this step.
    """
    if not new.faults or (new.faults < _FOR_SURE and not over):
        return False
    usual = old.faults / old.calls if old.calls else 0.0
    return new.faults / new.calls > most_faults + usual


def _mistake(text: str) -> UserMistakeError:
    return UserMistakeError(f"{text} Nothing was done.")
