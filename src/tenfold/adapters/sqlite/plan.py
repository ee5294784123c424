"""A planned statement of SQLite's: question marks, and lists written out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tenfold.tables.errors import ParameterError
from tenfold.tables.plan import Plan as AnyPlan
from tenfold.tables.plan import Process, Shape, Slot, column_defaults, with_amounts
from tenfold.tables.scoping import GENERATION_MARK, Scope

__all__ = ["Plan", "shape_of"]

_LIST: Final = re.compile(r"__\[POSTCOMPILE_(\S+?)\]")
_MOST_PARAMETERS: Final = 32_766


def shape_of(compiled: Any, scope: Scope, dialect: Any) -> Shape:
    """Take a compiled statement apart."""
    processors = compiled._bind_processors
    defaults = column_defaults(compiled, scope)
    slots = []
    for name in compiled.positiontup:
        slot = Slot(name, compiled.binds[name], _scalar(processors.get(name)))
        if name in defaults:
            slot.required, slot.default = False, defaults[name]
        slots.append(slot)
    return Shape(compiled, compiled.string, slots, scope, dialect)


def _scalar(process: Any) -> Process | None:
    # Of a list of tuples SQLAlchemy gives one converter for each place.
    if isinstance(process, tuple):
        places = process
        return lambda row: tuple(
            value if place is None else place(value)
            for place, value in zip(places, row, strict=True)
        )
    made: Process | None = process
    return made


class Plan(AnyPlan):
    """A statement that is ready to run on SQLite. See `tenfold.tables.plan.Plan`."""

    __slots__ = ()

    def _is_plain(self) -> bool:
        return not self._shape.lists

    def render(
        self, parameters: Mapping[str, Any], tenant: str, generations: Mapping[str, int]
    ) -> tuple[str, tuple[Any, ...]]:
        """The text and the values to run it with. See `tenfold.tables.plan.Plan.render`."""
        shape = self._shape
        if shape.lists:
            return self._render_lists(parameters, tenant, generations)
        values = self._values(parameters, tenant)
        text = shape.text if not shape.projections else self._text((), generations)
        return text, values

    def _render_lists(
        self, parameters: Mapping[str, Any], tenant: str, generations: Mapping[str, int]
    ) -> tuple[str, tuple[Any, ...]]:
        shape = self._shape
        parameters = with_amounts(shape, parameters)
        self._check_names(parameters)
        values: list[Any] = []
        sizes: list[Any] = []
        for slot in shape.slots:
            if slot.expanding:
                sizes.append(self._expand(slot, self._given(slot, parameters), values))
            else:
                values.append(self._one_value(slot, parameters, tenant))
        if len(values) > _MOST_PARAMETERS:
            raise ParameterError(
                f"A statement of module {shape.module!r} was given {len(values):,} values; SQLite "
                f"takes {_MOST_PARAMETERS:,}. Nothing was run. Run it on parts of the list."
            )
        return self._text(tuple(sizes), generations), tuple(values)

    def _expand(self, slot: Slot, given: Any, values: list[Any]) -> tuple[int, int]:
        """Append a list's values, padded to a power of two; returns its size and width."""
        items = self._shape.list_of(slot.key, given, slot.process)
        if not items:
            return 0, 0
        # Padding with the last value changes no answer, and keeps the texts few, so that
        # sqlite3's own cache of prepared statements finds them.
        size = 1 << (len(items) - 1).bit_length()
        if size > _MOST_PARAMETERS // 2:
            size = len(items)
        items.extend([items[-1]] * (size - len(items)))
        if isinstance(items[0], tuple):
            for item in items:
                values.extend(item)
            return size, len(items[0])
        values.extend(items)
        return size, 0

    def _text(self, sizes: tuple[tuple[int, int], ...], generations: Mapping[str, int]) -> str:
        shape = self._shape
        key = (sizes, shape.generation_key(generations))
        text: str | None = shape.texts.get(key)
        if text is None:
            left = iter(sizes)
            text = _LIST.sub(lambda _: _marks(*next(left)), shape.text)
            text = GENERATION_MARK.sub(lambda mark: str(generations[mark[1]]), text)
            if len(shape.texts) < 256:
                shape.texts[key] = text
        return text


def _marks(size: int, width: int) -> str:
    if not width:
        return ", ".join("?" * size)
    one = f"({', '.join('?' * width)})"
    return "VALUES " + ", ".join([one] * size)
