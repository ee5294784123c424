"""Contracts, and how their signatures are read into specifications."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from keyword import iskeyword
from types import NoneType
from typing import Any, Protocol, get_type_hints

import msgspec

from tenfold.contracts.caching import check_caching
from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import OPERATION_ATTRIBUTE, Declaration, Kind
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Event, Struct

__all__ = ["Contract", "ContractSpec", "OperationSpec", "published_name", "read_contract"]


class Contract(Protocol):
    """The published face of a module: its operations, as methods, in one file.

    Subclass it together with `Protocol`. Events, refusals and structs of the
    module stand in the same file. Importing a contract loads no implementation.
    """


class OperationSpec(Struct):
    """One operation as its signature and decorator declare it.

    `arguments` is a struct with one field for each parameter, under its published
    name; `result` is the return annotation (`None` for an operation that returns nothing).
    """

    contract: str
    name: str
    declaration: Declaration
    arguments: type[msgspec.Struct]
    parameters: tuple[str, ...]
    path_parameters: tuple[str, ...]
    result: Any
    doc: str

    @property
    def kind(self) -> Kind:
        """`Kind.COMMAND` or `Kind.QUERY`."""
        return self.declaration.kind


class ContractSpec(Struct):
    """A contract, read: its operations and the events declared beside it, in file order."""

    contract: Any
    name: str
    doc: str
    operations: dict[str, OperationSpec]
    events: dict[str, type[Event]]


def read_contract(contract: Callable[..., Contract]) -> ContractSpec:
    """Read a contract class into its specification.

    Args:
        contract: a class that names both `Contract` and `Protocol` as bases.
    Returns: operations and events in the order in which the file declares them.
    Raises: ContractError naming the method and what it lacks.
    """
    if not (isinstance(contract, type) and getattr(contract, "_is_protocol", False)):
        raise ContractError(
            f"{contract!r} is not a contract. Write "
            f"`class {getattr(contract, '__name__', 'Name')}(Contract, Protocol):`."
        )
    operations: dict[str, OperationSpec] = {}
    for name, member in vars(contract).items():
        declaration = getattr(member, OPERATION_ATTRIBUTE, None)
        if isinstance(declaration, Declaration):
            operations[name] = _read_operation(contract, name, member, declaration)
        elif inspect.isfunction(member) and not name.startswith("_") and name != "__init__":
            raise ContractError(
                f"{contract.__name__}.{name} is public and is neither a command nor a query. "
                "Decorate it with @command(...) or @query(...)."
            )
    module = sys.modules[contract.__module__]
    events = {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Event)
        and value.__module__ == contract.__module__
    }
    for event in events.values():
        key = event.order_key_field
        if key is not None and key not in event.__struct_fields__:
            raise ContractError(
                f"{event.__name__} names key={key!r}, which is none of its fields "
                f"{list(event.__struct_fields__)}."
            )
    _check_references(contract.__name__, operations, events)
    check_caching(contract.__name__, operations)
    return ContractSpec(
        contract=contract,
        name=contract.__name__,
        doc=inspect.cleandoc(contract.__doc__ or ""),
        operations=operations,
        events=events,
    )


def _read_operation(
    contract: type, name: str, method: Callable[..., Any], declaration: Declaration
) -> OperationSpec:
    place = f"{contract.__name__}.{name}"
    if not inspect.iscoroutinefunction(method):
        raise ContractError(f"{place} is not `async def`. Operations are asynchronous.")
    hints = _hints(place, method)
    if "return" not in hints:
        raise ContractError(f"{place} has no return annotation. Say what it returns, or None.")
    fields: list[Any] = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise ContractError(f"{place} takes *{parameter.name}. Name every argument.")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise ContractError(
                f"{place} takes {parameter.name} by keyword only, and handlers get their arguments "
                "in order. Drop the `*`; callers may name arguments all the same."
            )
        if parameter.name not in hints:
            raise ContractError(f"{place}({parameter.name}) has no annotation. Give it a type.")
        field = (published_name(parameter.name), hints[parameter.name])
        fields.append(
            field if parameter.default is parameter.empty else (*field, parameter.default)
        )
    names = tuple(field[0] for field in fields)
    in_path = _path_parameters(declaration.path)
    for parameter_name in in_path:
        if parameter_name not in names:
            raise ContractError(
                f"The route of {place} has {{{parameter_name}}}, which is none of its "
                f"arguments {list(names)}."
            )
    if declaration.turn is not None and declaration.turn not in names:
        raise ContractError(
            f"{place} takes turns by {declaration.turn!r}, which is none of its arguments "
            f"{list(names)}."
        )
    for refusal in declaration.raises:
        if not (isinstance(refusal, type) and issubclass(refusal, Refusal)):
            raise ContractError(f"{place} raises={refusal!r}, which is not a Refusal.")
    arguments = msgspec.defstruct(
        f"{contract.__name__}_{name}",
        fields,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=contract.__module__,
    )
    result = hints["return"]
    return OperationSpec(
        contract=contract.__name__,
        name=name,
        declaration=declaration,
        arguments=arguments,
        parameters=names,
        path_parameters=in_path,
        result=None if result is NoneType else result,
        doc=inspect.cleandoc(method.__doc__ or ""),
    )


def _hints(place: str, method: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(method, include_extras=True)
    except NameError as error:
        raise ContractError(
            f"An annotation of {place} cannot be read: {error}. Import the name outside of "
            "`if TYPE_CHECKING:`, since the platform reads it at start."
        ) from error


def published_name(parameter: str) -> str:
    """A parameter's name as callers outside of Python see it: `from` for `from_` (PEP 8)."""
    return parameter[:-1] if parameter.endswith("_") and iskeyword(parameter[:-1]) else parameter


def _path_parameters(path: str | None) -> tuple[str, ...]:
    if path is None:
        return ()
    return tuple(
        part[1:-1] for part in path.split("/") if part.startswith("{") and part.endswith("}")
    )


def _check_references(
    contract: str, operations: dict[str, OperationSpec], events: dict[str, type[Event]]
) -> None:
    for operation in operations.values():
        created = operation.declaration.created
        if created is not None:
            target = operations.get(created)
            if target is None or target.kind is not Kind.QUERY:
                raise ContractError(
                    f"{contract}.{operation.name} says created={created!r}, which is not a "
                    "query of the same contract."
                )
        for event in operation.declaration.settled_by:
            if events.get(event.__name__) is not event or event.order_key_field is None:
                raise ContractError(
                    f"{contract}.{operation.name} says settled_by={event.__name__}, which is "
                    "not an event of the same file with a key."
                )
