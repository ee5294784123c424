"""Wiring: which module answers for which contract and event, and who is handed what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Kind
from tenfold.path.background import HandlerSpec
from tenfold.path.calls import Calls
from tenfold.path.proxies import Proxy
from tenfold.path.relay import Feed
from tenfold.path.schedule import decide_next_fire
from tenfold.ports.clock import Clock
from tenfold.runtimes.opening import OpenedModule
from tenfold.runtimes.reflection import ModuleShape, decode_settings, needed_contracts

__all__ = ["Wiring", "make_instance", "run_hook"]


def make_instance(
    shape: ModuleShape, opened: OpenedModule, settings: dict[str, Any], data_dir: Path
) -> tuple[Any, dict[str, Any]]:
    """A module's object with its database, settings and projections; others come later.

    Returns: the instance, and the instance of each projection by its name.
    """
    try:
        instance = shape.cls()
    except TypeError as error:
        raise ContractError(
            f"{shape.cls.__name__} cannot be made: {error}. A module takes no arguments and "
            "implements every operation of its contract; what it needs is annotated on the class."
        ) from error
    for attribute in shape.databases:
        setattr(instance, attribute, opened.database)
    for attribute, struct in decode_settings(shape, settings, data_dir).items():
        setattr(instance, attribute, struct)
    projections: dict[str, Any] = {}
    for attribute, cls in shape.projections.items():
        projection = cls()
        projection.db = opened.database  # type: ignore[attr-defined]
        setattr(instance, attribute, projection)
        projections[cls.name] = projection
    return instance, projections


class Wiring:
    """Who is who in a product. Every mistake in how modules meet is found here, at start."""

    def __init__(self, shapes: Mapping[str, ModuleShape], clock: Clock) -> None:
        self._shapes = shapes
        self._by_contract = self._contracts()
        self._by_event = self._events()
        for shape in shapes.values():
            for handler in shape.handlers:
                if handler.kind is Kind.EVENT:
                    self.source(shape.name, handler)
                if handler.cron is not None:
                    decide_next_fire(handler.cron, clock.now())
            _check_projections(shape)

    def source(self, module: str, handler: HandlerSpec) -> tuple[str, str]:
        """The module that publishes what a handler subscribes to, and the event's full name."""
        found = self._by_event.get(handler.payload)
        if found is None:
            raise ContractError(
                f"{module}.{handler.name} subscribes to {handler.payload.__name__}, which no "
                "module of this product publishes. Add the module that owns it to tenfold.toml, "
                "or drop the subscription."
            )
        return found

    @property
    def publishers(self) -> dict[type, str]:
        """The module that publishes each event."""
        return {event: module for event, (module, _) in self._by_event.items()}

    def feeds(self, module: str) -> dict[str | None, list[Feed]]:
        """What a module subscribes to: by projection, and under None the module itself."""
        found: dict[str | None, list[Feed]] = {}
        for handler in self._shapes[module].handlers:
            if handler.kind is not Kind.EVENT:
                continue
            source, event = self.source(module, handler)
            feed = Feed(
                handler=handler.name,
                source=source,
                events=(event,),
                start="now" if handler.start == "now" else "beginning",
                batch=handler.batch,
            )
            found.setdefault(handler.projection, []).append(feed)
        return found

    def hand_over(self, instances: Mapping[str, Any], calls: Calls) -> None:
        """Give every module of these the other modules that it needs, as proxies."""
        for name, instance in instances.items():
            shape = self._shapes[name]
            for attribute, contract in shape.needs.items():
                setattr(
                    instance,
                    attribute,
                    self.proxy(contract, calls, f"{shape.cls.__name__}.{attribute}"),
                )

    def arguments(self, function: Callable[..., Any], calls: Calls) -> dict[str, Proxy]:
        """The modules that a mount's builder or a seed function asks for."""
        return {
            parameter: self.proxy(contract, calls, f"{function.__qualname__}({parameter})")
            for parameter, contract in needed_contracts(function).items()
        }

    def proxy(self, contract: type, calls: Calls, who: str) -> Proxy:
        """A proxy of the module that implements a contract."""
        name = self.module_of(contract, who)
        spec = self._shapes[name].contract
        return calls.proxy(name, spec.name, tuple(spec.operations))

    def module_of(self, contract: type, who: str) -> str:
        """The module that implements a contract.

        Args:
            who: needs it, for the error.
        """
        name = self._by_contract.get(contract)
        if name is None:
            known = ", ".join(sorted(c.__name__ for c in self._by_contract))
            raise ContractError(
                f"{who} needs {contract.__name__}, which no module of this product implements. "
                f"It has: {known}. Add the module to tenfold.toml."
            )
        return name

    def _contracts(self) -> dict[type, str]:
        found: dict[type, str] = {}
        for name, shape in self._shapes.items():
            contract = shape.contract.contract
            if contract in found:
                raise ContractError(
                    f"The modules {found[contract]!r} and {name!r} both implement "
                    f"{contract.__name__}. A contract has one module in a product."
                )
            found[contract] = name
        return found

    def _events(self) -> dict[type, tuple[str, str]]:
        found: dict[type, tuple[str, str]] = {}
        for name, shape in self._shapes.items():
            for short, event in shape.contract.events.items():
                if event in found:
                    raise ContractError(
                        f"{short} stands in a file with the contracts of {found[event][0]!r} and "
                        f"{name!r}, so that nobody can tell whose event it is. Give each contract "
                        "a file of its own."
                    )
                found[event] = (name, f"{name}.{short}")
        return found


def _check_projections(shape: ModuleShape) -> None:
    """Every projection that a query says it reads is one of its module's."""
    known = {projection.name for projection in shape.projections.values()}
    for operation in shape.contract.operations.values():
        for name in operation.declaration.projections:
            if name not in known:
                raise ContractError(
                    f"{operation.contract}.{operation.name} says projections={name!r}, and its "
                    f"module {shape.name!r} has {sorted(known) or 'none'}. Mend the name, or "
                    "annotate the projection on the module."
                )


async def run_hook(instance: Any, name: str) -> None:
    """Run `started` or `stopping` of a module that has it."""
    method: Callable[[], Awaitable[None]] | None = getattr(instance, name, None)
    if method is not None:
        await method()
