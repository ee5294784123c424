"""Checks of a topology file: what a start would refuse, as far as nothing need be connected to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import TenfoldError
from tenfold.contracts.structs import Struct
from tenfold.edges.http.endpoint import reply_writer
from tenfold.edges.http.routes import Routes, add_operation
from tenfold.ports.clock import RandomIds, SystemClock
from tenfold.runtimes.brokers import check_broker
from tenfold.runtimes.doors import door_settings, fed_queues, open_door
from tenfold.runtimes.listening import refuse_open_doors
from tenfold.runtimes.places import Keys
from tenfold.runtimes.reach import caller_tls
from tenfold.runtimes.references import import_reference
from tenfold.runtimes.reflection import (
    ModuleShape,
    decode_settings,
    needed_contracts,
    read_module,
)
from tenfold.runtimes.topology import (
    Product,
    ProductFile,
    import_product,
    read_product_file,
    topology_names,
)
from tenfold.runtimes.wiring import Wiring

__all__ = ["Mistake", "check_topologies"]


class Mistake(Struct):
    """What is wrong, as a start would say it, and in which topologies."""

    message: str
    topologies: tuple[str, ...]


def check_topologies(
    start: Path | None = None,
    topology: str | None = None,
    *,
    environ: Mapping[str, str] | None = None,
) -> tuple[list[str], list[Mistake]]:
    """Check one topology of a file, or every one that it has.

    A mistake in the file itself ends the check of its topology; of modules, mounts and seed
    each is looked at, whatever is wrong with the others.

    Returns: the topologies that were checked, and what is wrong.
    Raises: UserMistakeError where there is no file, or none that can be read.
    """
    names = topology_names(start, environ=environ)
    names = names if topology is None else [topology]
    found: dict[str, list[str]] = {}
    for name in names:
        read = partial(read_product_file, start, name, environ=environ)
        for message in _Check().of(read):
            found.setdefault(message, []).append(name)
    return names, [Mistake(message=m, topologies=tuple(where)) for m, where in found.items()]


class _Check:
    """The check of one topology: goes on behind a mistake wherever that makes sense."""

    def __init__(self) -> None:
        self._messages: dict[str, None] = {}

    def of(self, read: Callable[[], ProductFile]) -> list[str]:
        with self._noting():
            source = read()
            products = list(self._imported(source))
            if self._messages:
                self._shapes(products)
            else:
                with self._noting():
                    self._wired(import_product(source))
            with self._noting():
                refuse_open_doors(source.topology.http, source.origins)
            with self._noting():
                _check_certificates(source)
            if source.topology.broker.url:
                with self._noting():
                    check_broker(source.topology.broker)
        return list(self._messages)

    @contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except TenfoldError as error:
            self._messages[str(error)] = None

    def _imported(self, source: ProductFile) -> Iterator[Product]:
        """The product with each of its modules alone; mounts and seed are looked for besides."""
        if not source.modules:
            import_product(source)
        for name, reference in source.modules.items():
            alone = {"modules": {name: reference}, "mounts": {}, "seed": None}
            with self._noting():
                yield import_product(msgspec.structs.replace(source, **alone))
        rest: list[tuple[Keys, str]] = [(("mounts", p), r) for p, r in source.mounts.items()]
        rest += [(("seed",), source.seed)] if source.seed is not None else []
        for keys, reference in rest:
            with self._noting():
                import_reference(reference, keys, source.origins, root=source.root, want="callable")

    def _shapes(self, products: list[Product]) -> dict[str, ModuleShape]:
        """What each module's class says of itself."""
        shapes: dict[str, ModuleShape] = {}
        for product in products:
            for name, cls in product.modules.items():
                with self._noting():
                    shapes[name] = read_module(name, cls)
        return shapes

    def _wired(self, product: Product) -> None:
        """How modules, mounts and limits go together; nothing is opened."""
        shapes = self._shapes([product])
        if len(shapes) < len(product.modules):
            return
        clock = SystemClock()
        wiring = Wiring(shapes, clock)
        for name, shape in shapes.items():
            with self._noting():
                decode_settings(shape, product.settings.get(name, {}), product.data_dir)
            for attribute, contract in shape.needs.items():
                with self._noting():
                    wiring.module_of(contract, f"{shape.cls.__name__}.{attribute}")
        outside = [*product.mounts.values(), *([product.seed] if product.seed else [])]
        for function in outside:
            with self._noting():
                for parameter, contract in needed_contracts(function).items():
                    wiring.module_of(contract, f"{function.__qualname__}({parameter})")
        operations: dict[str, OperationSpec] = {
            f"{name}.{operation.name}": operation
            for name, shape in shapes.items()
            for operation in shape.contract.operations.values()
        }
        self._served(operations)
        with self._noting():
            # Without its url, so that there is no client to be closed.
            settings = door_settings(product.name, product.topology)
            open_door(
                msgspec.structs.replace(settings, url=None),
                operations,
                {},
                fed_queues(shapes, wiring.publishers),
                clock,
                RandomIds(),
            )

    def _served(self, operations: Mapping[str, OperationSpec]) -> None:
        """Whether each operation that has a route can be served at it."""
        routes: Routes[object] = Routes()
        for name, spec in operations.items():
            if spec.declaration.path is not None:
                with self._noting():
                    add_operation(routes, spec, partial(reply_writer, name, spec, operations))


def _check_certificates(source: ProductFile) -> None:
    """Refuse what services are to show one another, where it cannot be read."""
    topology = source.topology
    if any(each.listen or each.addresses for each in topology.services.values()):
        caller_tls(topology.tls, source.root)
