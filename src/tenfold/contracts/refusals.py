"""Refusals: the expected, declared, typed ways in which an operation says no."""

from __future__ import annotations

import inspect
import re
from typing import Any, ClassVar, dataclass_transform, get_origin, get_type_hints

import msgspec

from tenfold.contracts.errors import ContractError

__all__ = ["Refusal"]


@dataclass_transform(frozen_default=True, kw_only_default=True)
class _RefusalMeta(type):
    """Tells type checkers that a refusal's declared fields are its keyword arguments."""


class Refusal(Exception, metaclass=_RefusalMeta):
    """An expected no: out of stock, SKU taken. Declared in `raises=`, raised by the handler.

    It is raised again with its fields at the caller, local or remote, and is a
    problem+json with `status` at the HTTP edge. The docstring is the sentence
    that people read. A refused command leaves nothing behind (NOT_DONE).

        class SkuTaken(Refusal, status=409):
            \"\"\"A product with this SKU exists.\"\"\"
            sku: str
    """

    status: ClassVar[int] = 409
    code: ClassVar[str] = "refusal"
    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, status: int = 409, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.status = status
        cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        inherited = tuple(getattr(cls.__mro__[1], "fields", ()))
        own = tuple(
            name
            for name, annotation in inspect.get_annotations(cls).items()
            if not name.startswith("_") and name not in inherited and not _of_class(annotation)
        )
        for name in own:
            if hasattr(Refusal, name):
                raise ContractError(
                    f"{cls.__name__} has a field {name!r}, which every refusal has already and "
                    "would lose. Name it otherwise."
                )
        cls.fields = inherited + own

    def __init__(self, **values: Any) -> None:
        values = {name: getattr(type(self), name) for name in self._defaults()} | values
        missing = [name for name in self.fields if name not in values]
        unknown = [name for name in values if name not in self.fields]
        if missing or unknown:
            raise TypeError(
                f"{type(self).__name__} takes the fields {list(self.fields)}"
                + (f"; missing: {missing}" if missing else "")
                + (f"; unknown: {unknown}" if unknown else "")
            )
        vars(self).update(values)
        super().__init__(type(self).sentence())

    @classmethod
    def _defaults(cls) -> list[str]:
        return [name for name in cls.fields if hasattr(cls, name)]

    @classmethod
    def sentence(cls) -> str:
        """The first paragraph of the docstring, on one line; the name where there is none."""
        text = (cls.__doc__ or cls.__name__).strip().split("\n\n")[0]
        return " ".join(text.split())

    @classmethod
    def payload_type(cls) -> type[msgspec.Struct]:
        """The struct that carries the fields over a wire; made once per class."""
        made: type[msgspec.Struct] | None = cls.__dict__.get("_payload_type")
        if made is None:
            hints = get_type_hints(cls, include_extras=True)
            made = msgspec.defstruct(
                f"{cls.__name__}Fields",
                [
                    (name, hints[name], getattr(cls, name))
                    if hasattr(cls, name)
                    else (name, hints[name])
                    for name in cls.fields
                ],
                frozen=True,
                kw_only=True,
                module=cls.__module__,
            )
            cls._payload_type = made  # type: ignore[attr-defined]
        return made

    def payload(self) -> dict[str, Any]:
        """The declared fields and their values, in the order of declaration."""
        return {name: self.__dict__[name] for name in self.fields}

    def __str__(self) -> str:
        fields = ", ".join(f"{k}={v}" for k, v in self.payload().items())
        return f"{type(self).sentence()} ({fields})" if fields else type(self).sentence()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.payload())


def _of_class(annotation: Any) -> bool:
    """Whether an annotation, which may still be text, is a ClassVar."""
    text = annotation if isinstance(annotation, str) else ""
    return get_origin(annotation) is ClassVar or "ClassVar" in text.partition("[")[0]


def _rebuild(cls: type[Refusal], values: dict[str, Any]) -> Refusal:
    return cls(**values)
