"""A planned statement of PostgreSQL's: numbered parameters, and one text whatever the lists."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import Column, types

from tenfold.tables.plan import Plan as AnyPlan
from tenfold.tables.plan import Process, Slot, column_defaults
from tenfold.tables.plan import Shape as AnyShape
from tenfold.tables.scoping import GENERATION_MARK, Scope

__all__ = ["Plan", "Shape"]

_MOST_TEXTS = 256


class Shape(AnyShape):
    """A compiled statement taken apart. See `tenfold.tables.plan.Shape`."""

    def __init__(self, compiled: Any, scope: Scope, dialect: Any) -> None:
        self.parts: list[str | int] = compiled.parts
        text = "".join(part for part in self.parts if isinstance(part, str))
        slots = [_slot(self, compiled, name, dialect) for name in compiled.positiontup]
        for slot in slots:
            if slot.name in (defaults := column_defaults(compiled, scope)):
                slot.required, slot.default = False, defaults[slot.name]
        self.module = scope.module
        super().__init__(compiled, text, slots, scope, dialect)
        table = getattr(compiled.statement, "table", None) if self.writes else None
        self.tables: frozenset[str] = frozenset() if table is None else frozenset({table.name})

    def result_processor(self, entry: Any, dialect: Any) -> Process | None:
        """As for any database, and sums of whole numbers, which come as decimals, as whole."""
        type_ = entry.type
        if type_._isnull:
            return _untyped
        if type_._unwrapped_dialect_impl(dialect)._type_affinity is types.Integer:
            return None if _is_stored(entry) else _whole
        return super().result_processor(entry, dialect)


def _is_stored(entry: Any) -> bool:
    return any(isinstance(each, Column) for each in entry.objects or ())


def _whole(value: Any) -> Any:
    return int(value) if type(value) is Decimal else value


def _untyped(value: Any) -> Any:
    # What SQLite computes of numbers without a declared type is a float.
    return float(value) if type(value) is Decimal else value


def _slot(shape: Shape, compiled: Any, name: str, dialect: Any) -> Slot:
    listed = compiled.list_places.get(name)
    if listed is None:
        return Slot(name, compiled.binds[name], compiled._bind_processors.get(name))
    slot = Slot(name, listed.bind, None)
    item = listed.item._cached_bind_processor(dialect)
    slot.process = _list_process(shape, slot.key, item, listed.place)
    return slot


def _list_process(shape: Shape, key: str, item: Process | None, place: int | None) -> Process:
    def whole(given: Any) -> list[Any]:
        return shape.list_of(key, given, item)

    def one_place(given: Any) -> list[Any]:
        return shape.list_of(key, [row[place] for row in shape.list_of(key, given, None)], item)

    return whole if place is None else one_place


class Plan(AnyPlan):
    """A statement that is ready to run on PostgreSQL. See `tenfold.tables.plan.Plan`.

    `tables` are the names of the tables that it writes, as they are declared;
    `returns` is whether it answers with rows.
    """

    __slots__ = ("returns", "tables")

    def __init__(self, shape: Shape, literals: Mapping[str, Any]) -> None:
        super().__init__(shape, literals)
        self.tables = shape.tables
        self.returns = bool(shape.columns)

    def render(
        self, parameters: Mapping[str, Any], tenant: str, generations: Mapping[str, int]
    ) -> tuple[str, tuple[Any, ...]]:
        """The text and the values to run it with. See `tenfold.tables.plan.Plan.render`."""
        return self.text(generations), self._values(parameters, tenant)

    def values(self, parameters: Mapping[str, Any], tenant: str) -> tuple[Any, ...]:
        """The values alone, in the order of the text's parameters.

        Raises: ParameterError (NOT_DONE) where one is missing, unknown or unfit.
        """
        return self._values(parameters, tenant)

    @property
    def shape(self) -> object:
        """What plans that share a text have in common; the same object for each of them.

        Kept with a text that was put together of several, it keeps them apart.
        """
        return self._shape

    @property
    def width(self) -> int:
        """How many parameters the text has."""
        return len(self._shape.slots)

    def text(self, generations: Mapping[str, int], first: int = 0) -> str:
        """The text, its parameters numbered from `first + 1`.

        It depends on nothing that a parameter holds, so texts of several plans
        can be put together once and kept.
        """
        shape = self._shape
        key = (first, shape.generation_key(generations))
        text: str | None = shape.texts.get(key)
        if text is None:
            text = "".join(
                [part if isinstance(part, str) else f"${part + 1 + first}" for part in shape.parts]
            )
            if shape.projections:
                text = GENERATION_MARK.sub(lambda mark: str(generations[mark[1]]), text)
            if len(shape.texts) < _MOST_TEXTS:
                shape.texts[key] = text
        return text
