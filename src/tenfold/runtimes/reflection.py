"""What a module's class says of itself: its contract, its needs, its tables, its handlers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_origin, get_type_hints

import msgspec

from tenfold.contracts.contract import Contract, ContractSpec, read_contract
from tenfold.contracts.errors import ContractError
from tenfold.contracts.structs import Struct
from tenfold.path.background import HandlerSpec, read_background
from tenfold.path.declare import Projection
from tenfold.path.dropping import drop_handlers
from tenfold.ports.database import Database

if TYPE_CHECKING:
    from sqlalchemy import MetaData

__all__ = ["ModuleShape", "contract_of", "needed_contracts", "read_module"]


class ModuleShape(Struct):
    """A module's class, read.

    `needs` maps an attribute to the contract whose module it wants; `settings`
    an attribute to its struct; `projections` an attribute to its class.
    `retain_days` says how long the outbox is kept, None for ever.
    """

    name: str
    cls: type
    contract: ContractSpec
    handlers: list[HandlerSpec]
    databases: tuple[str, ...]
    needs: dict[str, type]
    settings: dict[str, type[Struct]]
    projections: dict[str, type[Projection]]
    scoped: bool
    retain_days: int | None
    metadata: Any
    migrations: Path | None


def read_module(name: str, cls: type) -> ModuleShape:
    """Read a module's class. Raises ContractError naming the attribute and the mend."""
    contract = contract_of(cls)
    spec = read_contract(contract)
    for operation in spec.operations:
        _check_implemented(cls, contract, operation)
    hints = _hints(name, cls)
    databases: list[str] = []
    needs: dict[str, type] = {}
    settings: dict[str, type[Struct]] = {}
    projections: dict[str, type[Projection]] = {}
    for attribute, hint in hints.items():
        if get_origin(hint) is ClassVar or hint is ClassVar:
            continue
        if hint is Database:
            databases.append(attribute)
        elif is_contract(hint):
            needs[attribute] = hint
        elif isinstance(hint, type) and issubclass(hint, Projection):
            projections[attribute] = hint
        elif isinstance(hint, type) and issubclass(hint, Struct):
            settings[attribute] = hint
        elif not hasattr(cls, attribute):
            raise ContractError(
                f"{cls.__name__}.{attribute} is annotated {hint!r}, which the platform cannot "
                "hand over. Annotate it with Database, a contract, a Projection or a settings "
                "Struct; or give it a value."
            )
    handlers = read_background(cls)
    for projection in projections.values():
        handlers.extend(read_background(projection, projection.name))
    handlers.extend(drop_handlers(spec))
    _refuse_twins(cls, handlers)
    package = cls.__module__.rpartition(".")[0]
    return ModuleShape(
        name=name,
        cls=cls,
        contract=spec,
        handlers=handlers,
        databases=tuple(databases),
        needs=needs,
        settings=settings,
        projections=projections,
        scoped=_scope(cls) == "tenant",
        retain_days=_retain_days(cls),
        metadata=_metadata(cls, package),
        migrations=_migrations(cls, package),
    )


def is_contract(hint: object) -> bool:
    """Whether an annotation is a contract class."""
    return (
        isinstance(hint, type)
        and getattr(hint, "_is_protocol", False)
        and Contract in hint.__mro__
        and hint is not Contract
    )


def contract_of(cls: type) -> type:
    """The contract that a module's class implements: the first among its bases."""
    for base in cls.__mro__[1:]:
        if is_contract(base):
            return base
    raise ContractError(
        f"{cls.__name__} implements no contract. Name one as its base: "
        f"`class {cls.__name__}(Orders):`."
    )


def needed_contracts(function: Callable[..., Any]) -> dict[str, type]:
    """The contracts that a mount's builder or a seed function asks for, by parameter."""
    hints = _hints(function.__qualname__, function)
    hints.pop("return", None)
    for parameter, hint in hints.items():
        if not is_contract(hint):
            raise ContractError(
                f"{function.__qualname__}({parameter}) is annotated {hint!r}, which is not a "
                "contract. The platform hands modules over by their contracts, nothing else."
            )
    return hints


def _hints(name: str, owner: Any) -> dict[str, Any]:
    try:
        return get_type_hints(owner)
    except NameError as error:
        raise ContractError(
            f"An annotation of {name} cannot be read: {error}. Import the name outside of "
            "`if TYPE_CHECKING:`, since the platform reads it at start."
        ) from error


def _retain_days(cls: type) -> int | None:
    days = getattr(cls, "retain_days", None)
    if days is not None and not (type(days) is int and days >= 1):
        raise ContractError(
            f"{cls.__name__}.retain_days is {days!r}. Say a whole number of days above zero, or "
            "None to keep the log for ever."
        )
    return days


def _check_implemented(cls: type, contract: type, operation: str) -> None:
    """An operation that nobody wrote, or with other arguments, is found at start."""
    declared = vars(contract)[operation]
    written = getattr(cls, operation)
    if written is declared:
        own = [n for n in vars(cls) if not n.startswith("_") and n not in vars(contract)]
        near = get_close_matches(operation, own, n=1)
        raise ContractError(
            f"{cls.__name__} has no {operation}, which {contract.__name__} promises. "
            + (f"Did you mean {near[0]}? Rename it." if near else "Write it.")
        )
    names = list(signature(declared).parameters)[1:]
    taken = list(signature(written).parameters.values())[1:]
    if [p.name for p in taken[: len(names)]] != names or any(
        p.default is p.empty for p in taken[len(names) :]
    ):
        raise ContractError(
            f"{cls.__name__}.{operation} takes {[p.name for p in taken]}, and "
            f"{contract.__name__} promises {names}. Give it the same arguments in the same order."
        )


def _scope(cls: type) -> Literal["tenant", "global"]:
    scope = getattr(cls, "scope", "tenant")
    if scope not in ("tenant", "global"):
        raise ContractError(
            f'{cls.__name__}.scope is {scope!r}. Say "tenant" (the default) or "global".'
        )
    return "tenant" if scope == "tenant" else "global"


def _refuse_twins(cls: type, handlers: list[HandlerSpec]) -> None:
    names = [handler.name for handler in handlers]
    for name in names:
        if names.count(name) > 1:
            raise ContractError(f"{cls.__name__} has two background handlers named {name!r}.")


def _metadata(cls: type, package: str) -> MetaData | None:
    """The tables of the module: `metadata` on the class, or the one in its `tables.py`."""
    declared = getattr(cls, "metadata", None)
    if declared is not None:
        found: MetaData = declared
        return found
    tables = _tables_module(package)
    if tables is None:
        return None
    from sqlalchemy import MetaData

    # By identity: one that goes by two names is still one.
    found_by_id = {id(v): v for v in vars(tables).values() if isinstance(v, MetaData)}
    held = list(found_by_id.values())
    if len(held) != 1:
        raise ContractError(
            f"{package}.tables holds {len(held)} MetaData. Keep all tables of a module in one: "
            "METADATA = metadata()."
        )
    return held[0]


def _tables_module(package: str) -> ModuleType | None:
    if not package:
        return None
    try:
        return import_module(f"{package}.tables")
    except ModuleNotFoundError as error:
        if error.name == f"{package}.tables":
            return None
        raise


def _migrations(cls: type, package: str) -> Path | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None or not package:
        return None
    folder = Path(file).parent / "migrations"
    return folder if folder.is_dir() else None


def decode_settings(
    shape: ModuleShape, values: dict[str, Any], data_dir: Path
) -> dict[str, Struct]:
    """A module's settings structs, from plain values that were checked when they were read.

    `{data}` in a text stands for the data directory: a setting that names a file
    would else depend on where the product was started.
    """
    values = _placed(values, str(data_dir))
    try:
        return {
            attribute: msgspec.convert(values, kind, strict=False)
            for attribute, kind in shape.settings.items()
        }
    except msgspec.ValidationError as error:
        raise ContractError(
            f"The settings of module {shape.name!r} do not fit its struct: {error}."
        ) from error


def _placed(value: Any, data_dir: str) -> Any:
    if isinstance(value, str):
        return value.replace("{data}", data_dir)
    if isinstance(value, dict):
        return {key: _placed(each, data_dir) for key, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, data_dir) for each in value]
    return value
