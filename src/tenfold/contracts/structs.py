"""The frozen records that contracts are made of: `Struct` and `Event`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

import msgspec

__all__ = ["Event", "Struct"]


class _StructMeta(msgspec.StructMeta):
    """Takes an event's own keywords, which msgspec's metaclass would refuse."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        key: str | None = None,
        version: int | None = None,
        **config: Any,
    ) -> Any:
        # msgspec inherits `frozen` but asks every class anew for `kw_only`.
        config.setdefault("kw_only", True)
        cls = super().__new__(mcls, name, bases, namespace, **config)
        if key is not None:
            setattr(cls, "order_key_field", key)  # noqa: B010
        if version is not None:
            setattr(cls, "schema_version", version)  # noqa: B010
        return cls


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, kw_only=True, metaclass=_StructMeta):
    """A frozen record that contracts send and return.

    Constructing does not validate; every call does, local or remote. Unknown
    fields are ignored when it is read, so that a record may gain fields while
    old code still runs.
    """

    if TYPE_CHECKING:

        def __init_subclass__(
            cls, *, tag: str | bool | None = None, omit_defaults: bool = False
        ) -> None: ...


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Event(Struct, frozen=True, kw_only=True):
    """A fact that a module publishes: named in the past tense, immutable, versioned.

    Declared in the same file as the contract whose module publishes it. `key`
    names the field that orders it: events with an equal key reach each
    subscriber in the order in which they were committed, if the key's row was
    written in the same unit of work. Without a key there is no order.

        class OrderPlaced(Event, key="order_id", version=1):
            order_id: UUID
    """

    order_key_field: ClassVar[str | None] = None
    schema_version: ClassVar[int] = 1

    if TYPE_CHECKING:

        def __init_subclass__(cls, *, key: str | None = None, version: int = 1) -> None: ...
