"""What changes between two topologies of one product, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

import msgspec

from tenfold.contracts.structs import Struct
from tenfold.runtimes.pictures.plan import Group, Picture, Resource, place_of
from tenfold.runtimes.topology import ProductFile

__all__ = ["Change", "decide_differences"]

_TOLD_OTHERWISE = (
    "name",
    "processes.web",
    "processes.workers",
    "processes.modules",
    "database.kind",
    "database.url",
    "database.replicas",
    "database.local_replicas",
    "cache.url",
    "broker.url",
)
"""Keys whose changes are told of in words of their own."""
_OF_SERVICES = ("modules", "replicas", "workers")
"""Those of each service."""
_URLS = {"url", "direct_url", "purge_url", "replicas"}
"""Keys whose values may hold a password."""


class Change(Struct):
    """One thing that is otherwise: what it is about, and a sentence."""

    about: str
    text: str


def decide_differences(
    before: tuple[ProductFile, Picture], after: tuple[ProductFile, Picture]
) -> Iterator[Change]:
    """What changes from one topology to another: services, modules, resources, settings.

    The values of modules' settings are not told, since there may be secrets among them.
    """
    (old_file, old), (new_file, new) = before, after
    yield from _data(old_file, new_file)
    yield from _deliveries(old_file, new_file)
    yield from _front(old, new)
    yield from _services(old, new)
    yield from _resources(old.resources, new.resources)
    yield from _settings(old_file, new_file)


def _data(old: ProductFile, new: ProductFile) -> Iterator[Change]:
    before, after = old.topology, new.topology
    if before.shared == after.shared:
        return
    if after.shared:
        yield Change(
            about="data",
            text="The data moves from SQLite to PostgreSQL: `tenfold move --from "
            f"{before.name} --to {after.name}`.",
        )
    else:
        yield Change(
            about="data",
            text="The data would move from PostgreSQL to SQLite, which no command does.",
        )


def _deliveries(old: ProductFile, new: ProductFile) -> Iterator[Change]:
    if old.topology.repeated == new.topology.repeated:
        return
    if new.topology.repeated:
        text = "Calls go over a socket and every message is delivered more than once, for tests."
    elif new.topology.services:
        text = "Messages are delivered once."
    else:
        text = "Calls stay in the process, and messages are delivered once."
    yield Change(about="deliveries", text=text)


def _front(old: Picture, new: Picture) -> Iterator[Change]:
    before, after = old.gateways, new.gateways
    if before == after:
        return
    if before and after:
        text = f"There are {after} in place of {before}."
    elif after:
        text = f"{after} take the requests, and host no module."
    else:
        text = "There are no gateways: who hosts modules takes the requests."
    yield Change(about="gateways", text=text)


def _services(old: Picture, new: Picture) -> Iterator[Change]:
    before = {group.name: group for group in old.groups}
    after = {group.name: group for group in new.groups}
    for name, group in after.items():
        if name not in before:
            yield Change(about="services", text=_comes(group, alone=len(after) == 1))
        elif before[name].processes != group.processes:
            who, was = _who(group, alone=len(after) == 1), before[name].processes
            yield Change(about="services", text=f"{who}: {group.processes}, in place of {was}.")
    for name, group in before.items():
        if name not in after:
            yield Change(about="services", text=_goes(group, alone=len(before) == 1))
    # A module that was in no service has not moved: its service came.
    homes = {m: group.name for group in old.groups for m in group.modules if group.name}
    for group in new.groups:
        for module in group.modules:
            if group.name and homes.get(module, group.name) != group.name:
                said = f"{module} moves from the service {homes[module]} to {group.name}."
                yield Change(about="modules", text=said)


def _comes(group: Group, *, alone: bool) -> str:
    hosts = ", ".join(group.modules)
    if group.name:
        return f"The service {group.name} comes, with {group.processes}: {hosts}."
    if alone:
        return f"All modules are hosted together: {group.processes}."
    return f"The web processes host modules: {hosts}. There are {group.processes}."


def _goes(group: Group, *, alone: bool) -> str:
    if group.name:
        return f"The service {group.name} goes."
    if alone:
        return "No process hosts all modules any more."
    return "The web processes host no module any more."


def _who(group: Group, *, alone: bool) -> str:
    if group.name:
        return f"The service {group.name}"
    return "All modules" if alone else "The web processes"


def _resources(old: tuple[Resource, ...], new: tuple[Resource, ...]) -> Iterator[Change]:
    before = {resource.name: resource.what for resource in old}
    after = {resource.name: resource.what for resource in new}
    for name in {**before, **after}:
        if name not in before:
            verb = "come" if name.endswith("s") else "comes"
            yield Change(about=name, text=f"{name} {verb}: {after[name]}.")
        elif name not in after:
            verb = "go" if name.endswith("s") else "goes"
            yield Change(about=name, text=f"{name} {verb}: {before[name]}.")
        elif before[name] != after[name]:
            yield Change(about=name, text=f"{name}: {after[name]}, in place of {before[name]}.")


def _settings(old: ProductFile, new: ProductFile) -> Iterator[Change]:
    both = old.topology.services.keys() & new.topology.services.keys()
    before, after = _flat(old, both), _flat(new, both)
    for key in {**before, **after}:
        one, other = before.get(key), after.get(key)
        if one == other:
            continue
        if key.startswith("settings."):
            how = "is said" if one is None else "is left out" if other is None else "is another"
            yield Change(about=key, text=f"{key} {how}.")
        else:
            yield Change(
                about=key, text=f"{key} is {_said(key, other)} in place of {_said(key, one)}."
            )


def _flat(source: ProductFile, services: Set[str]) -> dict[str, Any]:
    """The values whose changes are told by their keys; of services only those named."""
    table = {**msgspec.to_builtins(source.topology), "settings": source.settings}
    table["services"] = {
        name: {key: value for key, value in each.items() if key not in _OF_SERVICES}
        for name, each in table["services"].items()
        if name in services
    }
    return {key: value for key, value in _leaves(table, "") if key not in _TOLD_OTHERWISE}


def _leaves(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _said(key: str, value: Any) -> str:
    if value in (None, "", (), []):
        return "nothing"
    if key.rpartition(".")[2] in _URLS:
        return ", ".join(map(place_of, [value] if isinstance(value, str) else value))
    return msgspec.json.encode(value).decode()
