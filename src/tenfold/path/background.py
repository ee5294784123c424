"""Background handlers of a module: its subscriptions, jobs and schedules, read and compiled."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Kind
from tenfold.contracts.structs import Event, Struct
from tenfold.path.declare import (
    BACKGROUND_ATTRIBUTE,
    Background,
    Job,
    Projection,
    ScheduleDeclaration,
    Subscription,
)

__all__ = ["HandlerSpec", "read_background"]


class HandlerSpec(Struct):
    """One background handler.

    `name` is unique in its module; a projection's handlers are
    `projection.method`. `payload` is the event, or a struct of the job's
    arguments; `start` and `cron` are set for subscriptions and schedules. With `batch`
    the method takes a list of so many events at the most.
    """

    name: str
    kind: Kind
    background: Background
    payload: type[msgspec.Struct]
    method: Callable[..., Awaitable[None]]
    start: str = "beginning"
    batch: int | None = None
    cron: str | None = None
    projection: str | None = None


class NoArguments(Struct):
    """The payload of a schedule."""


def read_background(owner: type, projection: str | None = None) -> list[HandlerSpec]:
    """Read the background handlers of a module's class, or of one of its projections.

    Inherited ones count, unless the class says something else under their name.

    Returns: specifications in the order of declaration; `method` is unbound.
    Raises: ContractError naming the method and what it lacks.
    """
    found: list[HandlerSpec] = []
    members: dict[str, Any] = {}
    for base in reversed(owner.__mro__):
        members.update(vars(base))
    for name, member in members.items():
        declared = getattr(member, BACKGROUND_ATTRIBUTE, None)
        prefix = f"{projection}." if projection else ""
        place = f"{owner.__name__}.{name}"
        if isinstance(declared, Subscription):
            if declared.batch is not None and projection is not None:
                raise ContractError(
                    f"{place} takes batches, and a projection is kept event by event, so that it "
                    "can be rebuilt beside itself. Leave out `batch`, or keep its table by a "
                    "subscription of the module."
                )
            found.append(
                HandlerSpec(
                    name=prefix + name,
                    kind=Kind.EVENT,
                    background=declared.background,
                    payload=_event_of(place, member, batch=declared.batch is not None),
                    method=member,
                    start=declared.start,
                    batch=declared.batch,
                    projection=projection,
                )
            )
        elif isinstance(declared, ScheduleDeclaration):
            _refuse_in_projection(place, owner)
            found.append(
                HandlerSpec(
                    name=name,
                    kind=Kind.SCHEDULE,
                    background=declared.background,
                    payload=NoArguments,
                    method=member,
                    cron=declared.cron,
                )
            )
        elif isinstance(member, Job):
            _refuse_in_projection(place, owner)
            found.append(
                HandlerSpec(
                    name=name,
                    kind=Kind.JOB,
                    background=member.background,
                    payload=_arguments_of(place, owner, member.method),
                    method=member.method,
                )
            )
    return found


def _hints(place: str, method: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(method, include_extras=True)
    except NameError as error:
        raise ContractError(
            f"An annotation of {place} cannot be read: {error}. Mend the name, or import it "
            "outside of `if TYPE_CHECKING:`, since the platform reads it at start."
        ) from error


def _event_of(place: str, method: Callable[..., Any], *, batch: bool) -> type[Event]:
    hints = _hints(place, method)
    names = list(inspect.signature(method).parameters)[1:]
    event = hints.get(names[0]) if len(names) == 1 else None
    many = get_origin(event) is list
    if many:
        (event,) = get_args(event)
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise ContractError(
            f"{place} subscribes to nothing. Give it exactly one argument, annotated with the "
            "event: `async def handler(self, event: OrderPlaced) -> None`."
        )
    if many and not batch:
        raise ContractError(
            f"{place} takes a list of {event.__name__}. Say how many at the most: "
            "`@subscribe(batch=500)`; or annotate its argument with the event alone."
        )
    if batch and not many:
        raise ContractError(
            f"{place} says `batch` and takes one {event.__name__}. Annotate its argument with "
            f"list[{event.__name__}], or leave out `batch`."
        )
    return event


def _arguments_of(place: str, owner: type, method: Callable[..., Any]) -> type[msgspec.Struct]:
    hints = _hints(place, method)
    fields: list[Any] = []
    for parameter in list(inspect.signature(method).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            raise ContractError(f"The job {place} takes *{parameter.name}. Name every argument.")
        if parameter.kind is parameter.KEYWORD_ONLY:
            raise ContractError(
                f"The job {place} takes {parameter.name} by keyword only, and handlers get their "
                "arguments in order. Drop the `*`; `enqueue` may name arguments all the same."
            )
        if parameter.name not in hints:
            raise ContractError(
                f"The job {place}({parameter.name}) has no annotation. Give it a type."
            )
        field = (parameter.name, hints[parameter.name])
        fields.append(
            field if parameter.default is parameter.empty else (*field, parameter.default)
        )
    return msgspec.defstruct(
        f"{owner.__name__}_{method.__name__}",
        fields,
        frozen=True,
        kw_only=True,
        module=owner.__module__,
    )


def _refuse_in_projection(place: str, owner: type) -> None:
    if issubclass(owner, Projection):
        raise ContractError(
            f"{place} is a job or a schedule of a projection, which depends on events alone. "
            "Declare it on the module."
        )
