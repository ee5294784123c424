"""What is drawn of a topology: who runs where, on what, who calls whom, who hears of what."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Struct
from tenfold.ports.clock import SystemClock
from tenfold.runtimes.brokers import KINDS
from tenfold.runtimes.listening import bracketed
from tenfold.runtimes.reflection import ModuleShape, read_module
from tenfold.runtimes.settings import ProcessSettings, ServiceSettings
from tenfold.runtimes.topology import Product, Topology
from tenfold.runtimes.wiring import Wiring

__all__ = ["CallLine", "EventLine", "Group", "Picture", "Resource", "decide_picture", "place_of"]

_NEXT_URL = re.compile(r",\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")


class Group(Struct):
    """Processes that host modules: a service, or without a name web processes and their workers."""

    name: str
    processes: str
    modules: tuple[str, ...]


class Resource(Struct):
    """What the modules are kept in, or share: its name, and which it is."""

    name: str
    what: str


class CallLine(Struct):
    """A module that calls another one; `remote` where the call leaves its process, by frames."""

    caller: str
    callee: str
    remote: bool


class EventLine(Struct):
    """A module that hears of another's event, or of its own, in one of its handlers."""

    publisher: str
    event: str
    subscriber: str
    handler: str


class Picture(Struct):
    """A topology as it is drawn. `gateways` is empty where the groups answer themselves, or
    gateways run elsewhere."""

    product: str
    topology: str
    listens: str
    gateways: str
    groups: tuple[Group, ...]
    resources: tuple[Resource, ...]
    calls: tuple[CallLine, ...]
    events: tuple[EventLine, ...]

    def heard(self) -> dict[tuple[str, str], tuple[str, ...]]:
        """Which other modules hear of each event, by its publisher and its name."""
        found: dict[tuple[str, str], tuple[str, ...]] = {}
        for line in self.events:
            heard = found.get((line.publisher, line.event), ())
            if line.subscriber != line.publisher and line.subscriber not in heard:
                found[line.publisher, line.event] = (*heard, line.subscriber)
        return found


def decide_picture(product: Product) -> Picture:
    """What there is to draw, as far as it is known without connecting to anything.

    Raises: ContractError where the modules do not go together.
    """
    topology = product.topology
    shapes = {name: read_module(name, cls) for name, cls in product.modules.items()}
    wiring = Wiring(shapes, SystemClock())
    homes = {m: name for name, each in topology.groups.items() for m in each.modules}
    return Picture(
        product=product.name,
        topology=topology.name,
        listens=_listens(topology),
        gateways=_gateways(topology),
        groups=tuple(_groups(topology, tuple(shapes))),
        resources=tuple(_resources(topology)),
        calls=tuple(_calls(shapes, wiring, homes, topology.repeated)),
        events=tuple(_events(shapes, wiring)),
    )


def place_of(url: str) -> str:
    """Where a server is, or several are, without what opens them: `host:port/name`.

    Of each URL in a list whatever stands before its last `@` is left out, so that a password
    with a comma or a slash in it is not shown in part. Where an `@` stands behind a `?` or a `#`
    nothing is shown: it ends a password with one of these in it, or is in the query.
    """
    return ",".join(map(_place, _NEXT_URL.split(url)))


def _place(url: str) -> str:
    rest = url.partition("://")[2] or url
    named, *query = re.split("[?#]", rest, maxsplit=1)
    if "@" in "".join(query):
        return "a place that is not shown"
    found = named.rpartition("@")[2].rstrip("/")
    return f"this machine{found}" if not found or found.startswith("/") else found


def _listens(topology: Topology) -> str:
    http, servers = topology.http, topology.balancer.servers
    own = f"{bracketed(http.host)}:{http.port}"
    if not servers:
        return own
    return f"{topology.balancer.listen}, a balancer over {', '.join(servers)}"


def _gateways(topology: Topology) -> str:
    web = topology.processes.web
    return _counted(web, "gateway") if web and topology.apart else ""


def _groups(topology: Topology, modules: tuple[str, ...]) -> Iterator[Group]:
    if not topology.apart:
        yield Group(
            name="",
            processes=_of_web(topology.processes),
            modules=topology.processes.modules or modules,
        )
    for name, settings in topology.services.items():
        yield Group(name=name, processes=_replicas(settings), modules=settings.modules)


def _of_web(processes: ProcessSettings) -> str:
    web, workers = processes.web, processes.workers
    if web == 1 and not workers:
        return "one process, which answers and does the background work"
    counts = [(web, "web process"), (workers, "worker")]
    return " and ".join(_counted(count, noun) for count, noun in counts if count)


def _replicas(settings: ServiceSettings) -> str:
    said = _counted(settings.replicas, "replica")
    return said + (f" and {_counted(settings.workers, 'worker')}" if settings.workers else "")


def _counted(count: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def _resources(topology: Topology) -> Iterator[Resource]:
    database, cache, broker = topology.database, topology.cache, topology.broker
    if not topology.shared:
        yield Resource(name="database", what=f"SQLite, a file for each module, in {topology.data}")
    else:
        local = not database.url
        where = "found or started on this machine" if local else f"at {place_of(database.url)}"
        yield Resource(name="database", what=f"PostgreSQL, a schema for each module, {where}")
        places = ", ".join(map(place_of, database.replicas))
        if local and database.local_replicas:
            count = _counted(database.local_replicas, "read replica")
            yield Resource(name="replicas", what=f"{count} beside it")
        elif places:
            count = _counted(len(database.replicas), "read replica")
            yield Resource(name="replicas", what=f"{count}: {places}")
    if cache.url:
        yield Resource(name="cache", what=f"Valkey, at {place_of(cache.url)}")
    elif topology.shared and not database.url:
        yield Resource(name="cache", what="Valkey, found or started on this machine")
    else:
        yield Resource(name="cache", what="in each process")
    if broker.url:
        kind = KINDS.get(broker.url.partition("://")[0])
        named = "a broker" if kind is None else kind.name
        yield Resource(
            name="broker", what=f"{named}, for events between services, at {place_of(broker.url)}"
        )
    elif topology.apart and not database.url:
        yield Resource(name="broker", what="NATS JetStream, found or started on this machine")


def _calls(
    shapes: Mapping[str, ModuleShape], wiring: Wiring, homes: Mapping[str, str], framed: bool
) -> Iterator[CallLine]:
    for name, shape in shapes.items():
        for attribute, contract in shape.needs.items():
            callee = wiring.module_of(contract, f"{shape.cls.__name__}.{attribute}")
            apart = framed or homes.get(name) != homes.get(callee)
            yield CallLine(caller=name, callee=callee, remote=apart)


def _events(shapes: Mapping[str, ModuleShape], wiring: Wiring) -> Iterator[EventLine]:
    for name, shape in shapes.items():
        for handler in shape.handlers:
            if handler.kind is Kind.EVENT:
                publisher, full = wiring.source(name, handler)
                yield EventLine(
                    publisher=publisher,
                    event=full.partition(".")[2],
                    subscriber=name,
                    handler=handler.name,
                )
