"""Decorators that bind a contract's methods: who may call them, and how HTTP reaches them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any, Literal, TypeVar

from tenfold.contracts.errors import ContractError
from tenfold.contracts.refusals import Refusal
from tenfold.contracts.structs import Event, Struct

__all__ = ["OPERATION_ATTRIBUTE", "Declaration", "Kind", "command", "query"]

OPERATION_ATTRIBUTE = "__tenfold_operation__"
_Method = TypeVar("_Method", bound=Callable[..., Awaitable[Any]])
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class Kind(str, Enum):
    """What a message is."""

    COMMAND = "command"
    QUERY = "query"
    EVENT = "event"
    JOB = "job"
    SCHEDULE = "schedule"


class Declaration(Struct):
    """What a decorator said of an operation, before its signature is read."""

    kind: Kind
    method: str | None
    path: str | None
    who: str
    raises: tuple[type[Refusal], ...] = ()
    timeout_s: float = 10.0
    key: Literal["optional", "required"] = "optional"
    turn: str | None = None
    created: str | None = None
    settled_by: tuple[type[Event], ...] = ()
    cache_s: float | None = None
    tags: tuple[str, ...] = ()
    invalidated_by: tuple[type[Event], ...] = ()
    cache_for: Literal["principal", "everyone"] = "principal"
    stale_if_error_s: float = 0.0
    invalidates: tuple[str, ...] = ()
    projections: tuple[str, ...] = ()
    rate: str | None = None
    priority: Literal["critical", "normal", "background"] = "normal"
    hedge: bool = False


def command(
    route: str | None = None,
    *,
    who: str,
    raises: Sequence[type[Refusal]] = (),
    timeout_s: float = 10.0,
    key: Literal["optional", "required"] = "optional",
    turn: str | None = None,
    created: str | None = None,
    settled_by: Sequence[type[Event]] = (),
    invalidates: Sequence[str] = (),
    rate: str | None = None,
    priority: Literal["critical", "normal", "background"] = "normal",
) -> Callable[[_Method], _Method]:
    """Declare a method that changes state.

    Args:
        route: `"METHOD /path/{name}"`, or None for an operation without HTTP.
            Arguments not in the path travel in the body.
        who: `"anyone"`, `"internal"` (no route, calls only), or a permission.
        raises: every refusal that the handler may raise.
        timeout_s: seconds from admission to commit; above 0, at most 300.
        key: `"required"` refuses a call without an idempotency key, and lets
            the handler call other modules' commands.
        turn: the argument that names what the command contends on. Calls with
            an equal value take turns before they begin, in one process.
        created: the query of the same contract that answers with what this
            command made: the reply is 201 with its `Location`, and the query
            gives the body after `Prefer: wait`.
        settled_by: events of the same contract that end what this command set
            off; the first whose order key is the reply's `id` ends a
            `Prefer: wait`.
        invalidates: tags of the contract's queries, filled in from this
            command's arguments, whose kept answers its commit drops.
        rate: how often one principal may call it, such as `"10/minute"`.
        priority: who goes first when there is more to do than one process can:
            `"background"` is turned away at half of its limit, `"critical"` at twice.
    """
    method, path = _split_route(route)
    declaration = Declaration(
        kind=Kind.COMMAND,
        method=method,
        path=path,
        who=who,
        raises=tuple(raises),
        timeout_s=timeout_s,
        key=key,
        turn=turn,
        created=created,
        settled_by=tuple(settled_by),
        invalidates=_texts(invalidates, "invalidates"),
        rate=rate,
        priority=priority,
    )
    return _declare(declaration)


def query(
    route: str | None = None,
    *,
    who: str,
    raises: Sequence[type[Refusal]] = (),
    timeout_s: float = 10.0,
    cache_s: float | None = None,
    tags: Sequence[str] = (),
    invalidated_by: Sequence[type[Event]] = (),
    cache_for: Literal["principal", "everyone"] = "principal",
    stale_if_error_s: float = 0.0,
    projections: Sequence[str] = (),
    rate: str | None = None,
    priority: Literal["critical", "normal", "background"] = "normal",
    hedge: bool = False,
) -> Callable[[_Method], _Method]:
    """Declare a method that changes nothing.

    Args:
        route: `"GET /path/{name}"`, or None. Arguments not in the path travel
            in the query string.
        who: `"anyone"`, `"internal"` (no route, calls only), or a permission.
        raises: every refusal that the handler may raise.
        timeout_s: seconds until the answer; above 0, at most 300.
        cache_s: seconds for which an answer may be kept, by the product's cache
            and by clients (`Cache-Control`); above 0, at most a week.
        tags: names of what the answer tells of, such as `"product:{product_id}"`,
            filled in from the arguments, by which kept answers are dropped.
        invalidated_by: events, of this contract or another, whose fields fill in
            tags: each drops the answers that have them.
        cache_for: `"principal"` keeps an answer for who asked; `"everyone"` lets
            all callers of a tenant share it, and the handler then sees a caller
            who is nobody in particular.
        stale_if_error_s: seconds after `cache_s` for which an answer is still
            given where a new one cannot be had.
        projections: names of the module's projections that the answer is read
            from; a caller who sends a position waits for them to reach it.
        rate: how often one principal may call it, such as `"100/minute"`.
        priority: as of a command.
        hedge: ask a second process of its service where the first takes longer than 95 of 100.
    """
    method, path = _split_route(route)
    declaration = Declaration(
        kind=Kind.QUERY,
        method=method,
        path=path,
        who=who,
        raises=tuple(raises),
        timeout_s=timeout_s,
        cache_s=cache_s,
        tags=_texts(tags, "tags"),
        invalidated_by=tuple(invalidated_by),
        cache_for=cache_for,
        stale_if_error_s=stale_if_error_s,
        projections=tuple(projections),
        rate=rate,
        priority=priority,
        hedge=hedge,
    )
    return _declare(declaration)


def _texts(values: Sequence[str], name: str) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ContractError(f"{name}={values!r} is one text. Write it as a list: [{values!r}].")
    return tuple(values)


def _split_route(route: str | None) -> tuple[str | None, str | None]:
    if route is None:
        return None, None
    method, _, path = route.partition(" ")
    if method not in _METHODS or not path.startswith("/"):
        raise ContractError(
            f"The route {route!r} cannot be served. Write it as "
            f'"METHOD /path/{{name}}" with METHOD one of {", ".join(_METHODS)}.'
        )
    return method, path


def _declare(declaration: Declaration) -> Callable[[_Method], _Method]:
    if not declaration.who:
        raise ContractError(
            'An operation has an empty who=. Say "anyone", "internal" or a permission.'
        )
    if declaration.who == "internal" and declaration.path is not None:
        raise ContractError(
            f'{declaration.method} {declaration.path} is for "internal" callers and has a '
            "route, which would publish it. Drop the route, or name who may call it."
        )
    if not 0 < declaration.timeout_s <= 300:
        raise ContractError(
            f"timeout_s={declaration.timeout_s} is outside 0 to 300 seconds. Longer work "
            "belongs in a job, which the command enqueues."
        )

    def mark(method: _Method) -> _Method:
        setattr(method, OPERATION_ATTRIBUTE, declaration)
        return method

    return mark
