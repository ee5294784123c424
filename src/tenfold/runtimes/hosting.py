"""Which processes host which modules: what a topology says of it, checked.

Without services all processes host all modules. With them each module is in one service, or
is among those that the web processes and their workers host; web processes that host none
are gateways.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from tenfold.runtimes.places import Keys, Origins, nearest
from tenfold.runtimes.processes import decide_processes
from tenfold.runtimes.settings import ProcessSettings, ServiceSettings

__all__ = ["WEB", "check_hosting", "decide_groups"]

WEB: Final = "web"
"""What the web processes that host modules are called by those who call them."""
_TAKEN = (WEB, "worker")
"""What their processes are called, which no service's may be."""


def decide_groups(
    processes: ProcessSettings, services: Mapping[str, ServiceSettings]
) -> dict[str, ServiceSettings]:
    """Who hosts modules and takes the calls of others: the services, and perhaps web processes."""
    if not services or not processes.modules:
        return dict(services)
    web = ServiceSettings(
        modules=processes.modules, replicas=processes.web, workers=processes.workers
    )
    return {WEB: web, **services}


def check_hosting(
    name: str,
    kind: str,
    processes: ProcessSettings,
    services: Mapping[str, ServiceSettings],
    modules: Mapping[str, str],
    origins: Origins,
) -> None:
    """Refuse what does not share out the modules, each once, or has nobody to take requests.

    Args:
        name: of the topology.
        kind: what the data is kept in.
        modules: those of the product.
    Raises: UserMistakeError with its place.
    """
    if not services:
        if processes.modules:
            raise origins.mistake(
                ("processes", "modules"),
                f"the topology {name!r} has no services, so that its processes host all modules.",
                "Leave it out, or put the other modules into [services].",
            )
        if processes.web + processes.workers < 1:
            raise origins.mistake(
                ("processes", "web"),
                "the topology has neither web nor worker processes.",
                "Ask for at least one.",
            )
        return
    if kind == "sqlite":
        raise origins.mistake(
            ("services",),
            f"the topology {name!r} keeps its data in SQLite, which one process has to itself, and "
            "has services.",
            'Leave them out, or say kind = "postgres" under database.',
        )
    if processes.modules:
        _check_web(name, processes, services, origins)
    else:
        _check_gateways(name, processes, services, origins)
    if not decide_processes(processes, services):
        raise origins.mistake(
            ("processes", "web"),
            f"no process of the topology {name!r} runs on this machine: no gateway, no replica and "
            "no worker of a service.",
            "Ask for at least one.",
        )
    _check_shares(processes, services, modules, origins)


def _check_web(
    name: str,
    processes: ProcessSettings,
    services: Mapping[str, ServiceSettings],
    origins: Origins,
) -> None:
    """Refuse what web processes that host modules cannot do."""
    if not processes.web:
        raise origins.mistake(
            ("processes", "web"),
            f"the web processes of the topology {name!r} host modules, and there are none.",
            "Ask for at least one, or put `modules` into a service.",
        )
    for service, settings in services.items():
        if service in _TAKEN:
            raise origins.mistake(
                ("services", service),
                f"{service!r} is what the processes are called that host the other modules.",
                "Name the service otherwise.",
            )
        if settings.listen or settings.addresses:
            raise origins.mistake(
                ("services", service, "listen" if settings.listen else "addresses"),
                f"the service {service!r} is on other machines too, and web processes that host "
                "modules are found on their own alone.",
                "Put `modules` of the processes into a service, or leave the address out.",
            )


def _check_gateways(
    name: str,
    processes: ProcessSettings,
    services: Mapping[str, ServiceSettings],
    origins: Origins,
) -> None:
    """Refuse gateways with workers, and services that nobody can ask."""
    if processes.workers:
        raise origins.mistake(
            ("processes", "workers"),
            f"the topology {name!r} has services, whose workers are each service's own.",
            "Leave it out, and say `workers` under the services; or say which `modules` these "
            "processes host.",
        )
    if not processes.web and not any(each.listen for each in services.values()):
        raise origins.mistake(
            ("processes", "web"),
            f"the topology {name!r} has services and no gateway.",
            "Ask for at least one.",
        )


def _check_shares(
    processes: ProcessSettings,
    services: Mapping[str, ServiceSettings],
    modules: Mapping[str, str],
    origins: Origins,
) -> None:
    """Refuse modules that nobody hosts, or two, or that are none."""
    placed: dict[str, str] = {}
    for keys, host, hosted in _shares(processes, services):
        for module in hosted:
            if module not in modules:
                raise origins.mistake(
                    keys,
                    f"{host} to host {module!r}, which is no module of the product.",
                    nearest(module, modules),
                )
            if module in placed:
                raise origins.mistake(
                    keys,
                    f"{host} to host {module!r}, and so {placed[module]}.",
                    "A module has one place.",
                )
            placed[module] = host
    missing = [module for module in modules if module not in placed]
    if missing:
        raise origins.mistake(
            ("services",),
            f"no service hosts {', '.join(missing)}.",
            "Add each to the `modules` of one service, or to those of `processes`.",
        )


def _shares(
    processes: ProcessSettings, services: Mapping[str, ServiceSettings]
) -> Iterator[tuple[Keys, str, tuple[str, ...]]]:
    if processes.modules:
        yield ("processes", "modules"), "the web processes are", processes.modules
    for service, settings in services.items():
        yield ("services", service, "modules"), f"the service {service!r} is", settings.modules
