"""Proxies: what a module holds in place of another, typed by its contract."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar, cast

from tenfold.contracts.envelope import Principal
from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.contracts.structs import Struct

__all__ = ["CallOptions", "Caller", "Proxy", "keyed", "stale_ok"]

_C = TypeVar("_C")


class CallOptions(Struct):
    """What a proxy adds to each of its calls.

    `decision` is false where an older answer will do. `key` is the idempotency
    key of its commands. `principal` and `tenant` count only outside of a
    message; inside one they are the message's.
    """

    decision: bool = True
    key: str | None = None
    principal: Principal | None = None
    tenant: str = "main"


class Caller(Protocol):
    """Carries one call of a proxy."""

    def __call__(
        self, name: str, options: CallOptions, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Awaitable[Any]:
        """Call the operation `name` of the proxy's contract."""
        ...


class Proxy:
    """Has one method for each operation of a contract, and nothing else.

    The code that calls it cannot tell whether the module is here or elsewhere.
    """

    def __init__(
        self, contract: str, names: tuple[str, ...], caller: Caller, options: CallOptions
    ) -> None:
        self._contract = contract
        self._names = names
        self._caller = caller
        self._options = options
        for name in names:
            setattr(self, name, _bound(caller, name, options))

    def __repr__(self) -> str:
        return f"<a proxy of {self._contract}>"

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"{self._contract} has no operation {name!r}. It offers: {', '.join(self._names)}."
        )

    def tenfold_with(self, changes: Mapping[str, Any]) -> Proxy:
        """The same proxy with other options."""
        values = {f: getattr(self._options, f) for f in self._options.__struct_fields__}
        options = CallOptions(**{**values, **changes})
        return Proxy(self._contract, self._names, self._caller, options)


def _bound(caller: Caller, name: str, options: CallOptions) -> Callable[..., Awaitable[Any]]:
    def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return caller(name, options, args, kwargs)

    call.__name__ = name
    return call


def stale_ok(contract: _C) -> _C:
    """The same module, for answers that may be a little old: from a replica or a cache.

    Without it, what a command's handler asks is answered for a decision: from
    the primary, past every cache.
    """
    return cast("_C", cast("Proxy", contract).tenfold_with({"decision": False}))


def keyed(contract: _C, key: str) -> _C:
    """The same module, whose commands carry this idempotency key: done once, however often sent.

    Args:
        key: 1 to 255 characters, the same for every repetition of one request.
    Raises: InvalidArgumentsError (NOT_DONE).
    """
    if not 1 <= len(key) <= 255:
        raise InvalidArgumentsError(
            f"An idempotency key has 1 to 255 characters, and this one has {len(key)}. Nothing "
            "was done. Use a UUID, or the id of what the request is about.",
            field="Idempotency-Key",
        )
    return cast("_C", cast("Proxy", contract).tenfold_with({"key": key}))
