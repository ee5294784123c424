"""The topology file, `tenfold.toml`: what a product is made of, and how it runs.

A value comes from the command line, else from the environment, else from the
chosen topology in the file, else from its default; each knows from where.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from tenfold.contracts.errors import UserMistakeError
from tenfold.contracts.structs import Struct
from tenfold.path.limits import LimitSettings
from tenfold.path.shedding import SheddingSettings
from tenfold.ports.broker import BrokerSettings
from tenfold.ports.cache import CacheSettings
from tenfold.runtimes.balancers.settings import BalancerSettings
from tenfold.runtimes.hosting import check_hosting, decide_groups
from tenfold.runtimes.places import Keys, Origins, nearest
from tenfold.runtimes.processes import PlannedProcess, decide_processes
from tenfold.runtimes.reach import check_reach
from tenfold.runtimes.reading import coerce, from_outside, merge, read, type_at
from tenfold.runtimes.references import import_reference
from tenfold.runtimes.settings import (
    DatabaseSettings,
    HttpLimits,
    ProcessSettings,
    QueueLimits,
    ServiceSettings,
    TlsSettings,
)

__all__ = [
    "FILE_NAME",
    "TWICE",
    "Product",
    "ProductFile",
    "Topology",
    "import_product",
    "load_product",
    "read_product_file",
    "topology_names",
]

FILE_NAME = "tenfold.toml"
_ON_POSTGRES = ("growth", "scale")
TWICE = "twice"
"""The topology for tests, which every product has: as `prototype`, if the file says nothing."""
_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*$", max_length=40)]


class Topology(Struct):
    """One topology as it holds after file, environment and command line."""

    name: str = "prototype"
    data: str = ".tenfold"
    http: HttpLimits = HttpLimits()
    queue: QueueLimits = QueueLimits()
    database: DatabaseSettings = DatabaseSettings(kind="sqlite")
    processes: ProcessSettings = ProcessSettings()
    services: dict[str, ServiceSettings] = msgspec.field(default_factory=dict)
    tls: TlsSettings = TlsSettings()
    balancer: BalancerSettings = BalancerSettings()
    cache: CacheSettings = CacheSettings()
    broker: BrokerSettings = BrokerSettings()
    limits: dict[str, LimitSettings] = msgspec.field(default_factory=dict)
    shedding: SheddingSettings = SheddingSettings()

    @property
    def shared(self) -> bool:
        """Whether several processes may work on its data at once."""
        return self.database.kind == "postgres"

    @property
    def groups(self) -> dict[str, ServiceSettings]:
        """Who hosts modules and takes the calls of others. See `hosting.decide_groups`."""
        return decide_groups(self.processes, self.services)

    @property
    def planned(self) -> tuple[PlannedProcess, ...]:
        """The processes of this machine."""
        return decide_processes(self.processes, self.services)

    @property
    def apart(self) -> bool:
        """Whether all modules are in services, whose events a broker of this machine carries.

        Where web processes host some, the database that all share does, unless a broker is named.
        """
        return bool(self.services) and not self.processes.modules

    @property
    def repeated(self) -> bool:
        """Whether every message is delivered more than once, to find what is not safe to repeat."""
        return self.name == TWICE


class ProductFile(Struct):
    """A topology file, read and checked, with nothing of the product imported."""

    file: Path
    name: str
    modules: dict[str, str]
    mounts: dict[str, str]
    seed: str | None
    settings: dict[str, dict[str, Any]]
    topology: Topology
    origins: Origins

    @property
    def root(self) -> Path:
        """The folder that holds the file."""
        return self.file.parent

    @property
    def data_dir(self) -> Path:
        """Where the product keeps its data.

        Relative to the file, so that every command finds the same data from
        wherever it is started; relative to the working directory where a
        variable or an option says it.
        """
        path = Path(self.topology.data).expanduser()
        start = Path.cwd() if ("data",) in self.origins.named else self.root
        return (start / path).absolute()


class Product(Struct):
    """A product, imported: module classes, mounts, seed, settings, and its topology.

    `settings` are by module, as plain values that fit the module's settings struct.
    """

    name: str
    root: Path
    modules: dict[str, type]
    mounts: dict[str, Callable[..., Any]]
    seed: Callable[..., Any] | None
    settings: dict[str, dict[str, Any]]
    topology: Topology
    data_dir: Path = Path(".tenfold")
    origins: Origins | None = None


class _Document(Struct):
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    modules: dict[_Name, str]
    seed: str | None = None
    mounts: dict[str, str] = msgspec.field(default_factory=dict)
    topologies: dict[_Name, dict[str, Any]] = msgspec.field(default_factory=dict)


class _TopologyTable(Struct):
    data: str = ".tenfold"
    http: HttpLimits = HttpLimits()
    queue: QueueLimits = QueueLimits()
    database: DatabaseSettings = DatabaseSettings()
    processes: ProcessSettings = ProcessSettings()
    services: dict[_Name, ServiceSettings] = msgspec.field(default_factory=dict)
    tls: TlsSettings = TlsSettings()
    balancer: BalancerSettings = BalancerSettings()
    cache: CacheSettings = CacheSettings()
    broker: BrokerSettings = BrokerSettings()
    limits: dict[_Name, LimitSettings] = msgspec.field(default_factory=dict)
    shedding: SheddingSettings = SheddingSettings()
    settings: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)


def load_product(
    start: Path | None = None,
    topology: str | None = None,
    *,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Product:
    """Find the topology file, read it for one topology, and import what it names.

    Arguments and errors as in `read_product_file`.
    """
    return import_product(read_product_file(start, topology, overrides=overrides, environ=environ))


def read_product_file(
    start: Path | None = None,
    topology: str | None = None,
    *,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> ProductFile:
    """Find and check the topology file without importing anything of the product.

    Args:
        start: the file, or a folder in or below the one that holds it; the
            working directory if None, or what `TENFOLD_PRODUCT` says.
        topology: its name; `TENFOLD_TOPOLOGY`, else `prototype`, if None.
        overrides: options of the command line, such as `{"http.port": "9000"}`.
        environ: the process's environment if None.
    Raises: UserMistakeError with place, what was found and what was expected.
    """
    environ = os.environ if environ is None else environ
    document, origins = _read_document(start, environ)
    file = origins.file
    name = topology or environ.get("TENFOLD_TOPOLOGY") or "prototype"
    tables = document.topologies or {"prototype": {}}
    like = "prototype" if name == TWICE and name not in tables else name
    tables = {TWICE: tables.get("prototype", {}), **tables}
    if name not in tables:
        raise UserMistakeError(
            f"{file}: there is no topology {name!r}. {nearest(name, tables)} "
            f"A topology is a table [topologies.NAME] of this file."
        )
    here = Origins(file=file, lines=_below(origins.lines, ("topologies", like)), named={})
    table = merge(tables[name], from_outside(environ, overrides or {}), _TopologyTable, here)
    chosen = read(table, _TopologyTable, (), here)
    for module in chosen.settings:
        if module not in document.modules:
            raise here.mistake(
                ("settings", module),
                f"there are settings for {module!r}, which is not a module of {document.name}.",
                nearest(module, document.modules),
            )
    return ProductFile(
        file=file,
        name=document.name,
        modules=dict(document.modules),
        mounts=document.mounts,
        seed=document.seed,
        settings=chosen.settings,
        topology=_topology(name, chosen, here, document.modules),
        origins=Origins(file=file, lines={**origins.lines, **here.lines}, named=here.named),
    )


def topology_names(
    start: Path | None = None, *, environ: Mapping[str, str] | None = None
) -> list[str]:
    """The topologies that a file has tables of. Arguments and errors as in `read_product_file`."""
    document, _ = _read_document(start, os.environ if environ is None else environ)
    return list(document.topologies or {"prototype": {}})


def _read_document(start: Path | None, environ: Mapping[str, str]) -> tuple[_Document, Origins]:
    """The topology file as it stands, whatever the topology."""
    file = _find(start or (Path(p) if (p := environ.get("TENFOLD_PRODUCT")) else Path.cwd()))
    text = _text(file)
    origins = Origins.scan(file, text)
    return read(_parse(file, text), _Document, (), origins), origins


def _topology(
    name: str, table: _TopologyTable, origins: Origins, modules: Mapping[str, str]
) -> Topology:
    """The topology that a table means, once its parts go together."""
    kind = table.database.kind or ("postgres" if name in _ON_POSTGRES else "sqlite")
    processes = table.processes
    _check_kind(name, table, kind, origins)
    check_hosting(name, kind, processes, table.services, modules, origins)
    check_reach(table.services, table.tls, origins)
    if table.broker.url and not table.services:
        raise origins.mistake(
            ("broker", "url"),
            f"the topology {name!r} has no services, so its modules share a database, which "
            "carries their events, and a broker would have nothing to do.",
            "Leave it out, or share the modules out among [services].",
        )
    if not table.services and processes.web + processes.workers < 1:
        raise origins.mistake(
            ("processes", "web"),
            "the topology has neither web nor worker processes.",
            "Ask for at least one.",
        )
    if table.database.pooler == "transaction" and not table.database.direct_url:
        raise origins.mistake(
            ("database", "pooler"),
            "behind a pooler in transaction mode nothing can hold a session, and no `direct_url` "
            "is named.",
            "Name the server itself there, for migrations, the lead and notices.",
        )
    return Topology(
        name=name,
        data=table.data,
        http=table.http,
        queue=table.queue,
        database=msgspec.structs.replace(table.database, kind=kind),
        processes=processes,
        services=table.services,
        tls=table.tls,
        balancer=table.balancer,
        cache=table.cache,
        broker=table.broker,
        limits=table.limits,
        shedding=table.shedding,
    )


def _check_kind(name: str, table: _TopologyTable, kind: str, origins: Origins) -> None:
    """Refuse what does not go with what the data is kept in."""
    if name == TWICE and kind != "sqlite":
        raise origins.mistake(
            ("database", "kind"),
            f"the topology {TWICE!r} is for tests: one process on SQLite, in which every message "
            "is delivered more than once.",
            f"Leave the kind out, or give it a table of its own, [topologies.{TWICE}].",
        )
    for key in ("web", "workers"):
        if kind == "sqlite" and getattr(table.processes, key) != getattr(ProcessSettings(), key):
            raise origins.mistake(
                ("processes", key),
                f"the topology {name!r} keeps its data in SQLite, which one process has to "
                f"itself, and `{key}` asks for more.",
                'Leave it out, or say kind = "postgres" under database.',
            )
    if kind == "sqlite" and ("database", "url") in origins.lines and table.database.url:
        raise origins.mistake(
            ("database", "url"),
            f"the topology {name!r} keeps its data in SQLite, which has no url.",
            'Leave it out, or say kind = "postgres" beside it.',
        )


def import_product(source: ProductFile) -> Product:
    """Import the classes and functions that a topology file names, and check the settings.

    Raises: UserMistakeError with the place; its cause is the user's own
        exception where an import failed.
    """
    if not source.modules:
        raise source.origins.mistake(
            ("modules",),
            "the product has no modules.",
            'Name at least one under [modules]: catalog = "store.catalog.module:CatalogModule".',
        )

    def find(reference: str, keys: Keys, want: str) -> Any:
        return import_reference(reference, keys, source.origins, root=source.root, want=want)

    modules = {n: find(r, ("modules", n), "class") for n, r in source.modules.items()}
    for path in source.mounts:
        if not path.startswith("/"):
            raise source.origins.mistake(
                ("mounts", path), f"the mount {path!r} is not a path.", "Let it begin with `/`."
            )
    return Product(
        name=source.name,
        root=source.root,
        modules=modules,
        mounts={p: find(r, ("mounts", p), "callable") for p, r in source.mounts.items()},
        seed=None if source.seed is None else find(source.seed, ("seed",), "callable"),
        settings={
            name: _module_settings(name, cls, source.settings.get(name, {}), source.origins)
            for name, cls in modules.items()
        },
        topology=source.topology,
        data_dir=source.data_dir,
        origins=source.origins,
    )


def _find(start: Path) -> Path:
    start = start.expanduser().absolute()
    if start.is_file():
        return start
    for folder in (start, *start.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise UserMistakeError(
        f"There is no {FILE_NAME} in {start} or above it. Start from the folder of a product, "
        f"or name it with --product or TENFOLD_PRODUCT."
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserMistakeError(f"{file} could not be read: {error}.") from error


def _parse(file: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserMistakeError(f"{file} is not valid TOML: {error}.") from error


def _below(lines: dict[Keys, int], prefix: Keys) -> dict[Keys, int]:
    size = len(prefix)
    return {keys[size:]: line for keys, line in lines.items() if keys[:size] == prefix}


def _module_settings(name: str, cls: type, raw: dict[str, Any], origins: Origins) -> dict[str, Any]:
    """One module's settings, checked against the struct that its class asks for."""
    keys: Keys = ("settings", name)
    kind = _settings_type(cls)
    if kind is None:
        if raw:
            raise origins.mistake(
                keys,
                f"there are settings for {name!r}, but {cls.__name__} asks for none.",
                "Drop them, or annotate an attribute of the class with a settings Struct.",
            )
        return {}
    values = _coerced(raw, kind, keys, origins)
    read(values, kind, keys, origins)
    return values


def _coerced(
    table: dict[str, Any], settings: type[Struct], keys: Keys, origins: Origins
) -> dict[str, Any]:
    """A table of settings whose texts from outside are what their types want, at any depth."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        at = (*keys, key)
        if isinstance(value, dict):
            values[key] = _coerced(value, settings, at, origins)
        elif at in origins.named and (wanted := type_at(settings, at[2:])) is not None:
            values[key] = coerce(value, wanted, at, origins)
        else:
            values[key] = value
    return values


def _settings_type(cls: type) -> type[Struct] | None:
    from typing import get_type_hints

    try:
        hints = get_type_hints(cls)
    except Exception:  # the host says what is wrong with an annotation, and does it better
        return None
    for hint in hints.values():
        if isinstance(hint, type) and issubclass(hint, Struct):
            return hint
    return None
