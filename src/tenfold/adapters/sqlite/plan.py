"""One planned statement: its text, how its parameters are bound, what its rows are."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from tenfold.contracts.scalars import Money
from tenfold.tables.columns import CURRENCY_SUFFIX, MINOR_SUFFIX
from tenfold.tables.errors import ParameterError, RowShapeError, StatementRefusedError
from tenfold.tables.scoping import (
    GENERATION_MARK,
    TENANT_PARAMETER,
    Scope,
)

__all__ = ["Plan", "Shape"]

_T = TypeVar("_T")
_Process = Callable[[Any], Any]
_LIST: Final = re.compile(r"__\[POSTCOMPILE_(\S+?)\]")
_MOST_PARAMETERS: Final = 32_766
_MISSING: Final = object()


class _Slot:
    """One question mark of the text."""

    __slots__ = ("default", "expanding", "key", "name", "process", "required")

    def __init__(self, name: str, bind: Any, process: _Process | None) -> None:
        self.name = name
        self.key = bind.key
        self.process = process
        self.required = bind.required
        self.expanding = bind.expanding
        self.default = None if bind.required else bind.effective_value


class Shape:
    """A compiled statement taken apart; shared by statements that differ in literals only."""

    def __init__(self, text: str, slots: list[_Slot], scope: Scope, *, writes: bool) -> None:
        self.text = text
        self.slots = slots
        self.module = scope.module
        self.writes = writes
        self.projections = tuple(dict.fromkeys(GENERATION_MARK.findall(text)))
        self.lists = any(slot.expanding for slot in slots)
        self.names = frozenset(s.key for s in slots if s.required and s.key != TENANT_PARAMETER)
        self.optional: frozenset[str] = frozenset()
        self.amounts = tuple(
            (name[: -len(MINOR_SUFFIX)], name, name[: -len(MINOR_SUFFIX)] + CURRENCY_SUFFIX)
            for name in self.names
            if name.endswith(MINOR_SUFFIX)
            and name[: -len(MINOR_SUFFIX)] + CURRENCY_SUFFIX in self.names
        )
        self.columns: tuple[str, ...] = ()
        self.make_row: Callable[[Any], Any] = tuple
        self.converters: tuple[tuple[int, _Process], ...] = ()
        self.row_amounts: tuple[tuple[str, int, int], ...] = ()
        self.texts: dict[Any, str] = {}

    @staticmethod
    def of(compiled: Any, scope: Scope, dialect: Any) -> Shape:
        """Take a compiled statement apart."""
        if compiled.literal_execute_params:
            raise StatementRefusedError(
                f"A statement of module {scope.module!r} has a parameter that must be written into "
                "its text. Nothing was run. Use a literal value or a plain bindparam there."
            )
        processors = compiled._bind_processors
        defaults = _column_defaults(compiled, scope)
        slots = []
        for name in compiled.positiontup:
            slot = _Slot(name, compiled.binds[name], _scalar(processors.get(name)))
            if name in defaults:
                slot.required, slot.default = False, defaults[name]
            slots.append(slot)
        statement = compiled.statement
        writes = bool(statement.is_dml)
        shape = Shape(compiled.string, slots, scope, writes=writes)
        shape.optional = frozenset(
            slot.key for slot in slots if not slot.required and not compiled.binds[slot.name].unique
        )
        shape._rows(compiled, dialect)
        return shape

    def _rows(self, compiled: Any, dialect: Any) -> None:
        entries = compiled._result_columns or []
        self.columns = tuple(str(entry.keyname) for entry in entries)
        if not self.columns:
            return
        cls: Any = namedtuple("Row", self.columns, rename=True)  # type: ignore[misc]
        found = [(i, e.type._cached_result_processor(dialect, None)) for i, e in enumerate(entries)]
        self.converters = tuple((i, process) for i, process in found if process is not None)
        amounts = []
        for at, column in enumerate(self.columns):
            stem = column[: -len(MINOR_SUFFIX)]
            if column.endswith(MINOR_SUFFIX) and stem + CURRENCY_SUFFIX in self.columns:
                other = self.columns.index(stem + CURRENCY_SUFFIX)
                amounts.append((stem, at, other))
                if stem not in self.columns:
                    setattr(cls, stem, property(partial(_amount, at=at, other=other)))
        self.row_amounts = tuple(amounts)
        self.make_row = partial(tuple.__new__, cls)


def _amount(row: Any, at: int, other: int) -> Money | None:
    return None if row[at] is None else Money.from_minor(row[at], row[other])


def _scalar(process: Any) -> _Process | None:
    # Of a list of tuples SQLAlchemy gives one converter for each place.
    if isinstance(process, tuple):
        places = process
        return lambda row: tuple(
            value if place is None else place(value)
            for place, value in zip(places, row, strict=True)
        )
    made: _Process | None = process
    return made


def _column_defaults(compiled: Any, scope: Scope) -> dict[str, Any]:
    """The constant defaults of columns that an insert or update leaves out."""
    found: dict[str, Any] = {}
    for columns, kind in (
        (compiled.insert_prefetch, "default"),
        (compiled.update_prefetch, "onupdate"),
    ):
        for column in columns:
            default = getattr(column, kind)
            if not default.is_scalar:
                raise StatementRefusedError(
                    f"A statement of module {scope.module!r} leaves {column} to a {kind}= that is "
                    "computed in Python. Nothing was run. Time and identifiers come in as "
                    "parameters (now(), new_id()), so that a test can hold them: pass the value."
                )
            found[compiled._within_exec_param_key_getter(column)] = default.arg
    return found


class Plan:
    """A statement that is ready to run. Immutable; safe for several threads.

    `writes` is whether it changes rows, `columns` are the names of its results.
    """

    __slots__ = ("_constants", "_fast", "_shape", "columns", "writes")

    def __init__(self, shape: Shape, literals: Mapping[str, Any]) -> None:
        self._shape = shape
        self.writes = shape.writes
        self.columns = shape.columns
        constants: dict[str, Any] = {}
        for slot in shape.slots:
            if not slot.required:
                literal = literals.get(slot.key)
                constants[slot.name] = slot.default if literal is None else literal.effective_value
        self._constants = constants
        self._fast = _renderer(shape, constants) if not shape.lists else None

    def render(
        self, parameters: Mapping[str, Any], tenant: str, generations: Mapping[str, int]
    ) -> tuple[str, tuple[Any, ...]]:
        """The text and the values to run it with.

        Args:
            parameters: by the names of the statement's `bindparam`s. `price` fills
                `price_minor` and `price_currency`.
            generations: the generation of each projection that is meant.
        Raises: ParameterError (NOT_DONE) where one is missing, unknown or unfit.
        """
        shape = self._shape
        if shape.amounts:
            parameters = _with_amounts(shape, parameters)
        if self._fast is not None and len(parameters) == len(shape.names):
            try:
                values = self._fast(parameters, tenant)
            except KeyError:
                raise self._wrong(parameters) from None
            text = shape.text if not shape.projections else self._text((), generations)
            return text, values
        return self._render_slowly(parameters, tenant, generations)

    def _render_slowly(
        self, parameters: Mapping[str, Any], tenant: str, generations: Mapping[str, int]
    ) -> tuple[str, tuple[Any, ...]]:
        shape = self._shape
        names = parameters.keys()
        if not shape.names <= names or not names <= shape.names | shape.optional:
            raise self._wrong(parameters)
        values: list[Any] = []
        sizes: list[Any] = []
        for slot in shape.slots:
            if slot.key == TENANT_PARAMETER:
                values.append(tenant)
                continue
            value = parameters.get(slot.key, _MISSING)
            if value is _MISSING:
                value = self._constants[slot.name]
            if slot.expanding:
                sizes.append(self._expand(slot, value, values))
            else:
                values.append(value if slot.process is None else slot.process(value))
        if len(values) > _MOST_PARAMETERS:
            raise ParameterError(
                f"A statement of module {shape.module!r} was given {len(values):,} values; SQLite "
                f"takes {_MOST_PARAMETERS:,}. Nothing was run. Run it on parts of the list."
            )
        return self._text(tuple(sizes), generations), tuple(values)

    def _expand(self, slot: _Slot, given: Any, values: list[Any]) -> tuple[int, int]:
        """Append a list's values, padded to a power of two; returns its size and width."""
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise ParameterError(
                f"The parameter {slot.key!r} of a statement of module {self._shape.module!r} is "
                f"{type(given).__name__}, not a list. Nothing was run. Pass a list."
            )
        items = [item if slot.process is None else slot.process(item) for item in given]
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
        try:
            key = (sizes, *[generations[name] for name in shape.projections])
        except KeyError as error:
            raise StatementRefusedError(
                f"The projection {error.args[0]!r} of module {shape.module!r} has no generation "
                "yet. Nothing was run. It gets its tables when the module starts."
            ) from None
        text = shape.texts.get(key)
        if text is None:
            left = iter(sizes)
            text = _LIST.sub(lambda _: _marks(*next(left)), shape.text)
            text = GENERATION_MARK.sub(lambda mark: str(generations[mark[1]]), text)
            if len(shape.texts) < 256:
                shape.texts[key] = text
        return text

    def _wrong(self, parameters: Mapping[str, Any]) -> ParameterError:
        shape = self._shape
        missing = sorted(shape.names - parameters.keys())
        unknown = sorted(parameters.keys() - shape.names - shape.optional)
        found = [f"missing: {', '.join(missing)}"] if missing else []
        found += [f"unknown: {', '.join(unknown)}"] if unknown else []
        return ParameterError(
            f"A statement of module {shape.module!r} was run with the wrong parameters "
            f"({'; '.join(found)}). Nothing was run. It takes: "
            f"{', '.join(sorted(shape.names | shape.optional)) or 'none'}."
        )

    def row(self, raw: tuple[Any, ...]) -> Any:
        """One row of sqlite3's as a tuple with attributes, its values converted."""
        shape = self._shape
        if shape.converters:
            values = list(raw)
            for at, process in shape.converters:
                values[at] = process(values[at])
            return shape.make_row(values)
        return shape.make_row(raw)

    def value(self, raw: tuple[Any, ...]) -> Any:
        """The first column of one row of sqlite3's, converted."""
        converters = self._shape.converters
        if converters and converters[0][0] == 0:
            return converters[0][1](raw[0])
        return raw[0]

    def into(self, raw: tuple[Any, ...], type_: type[_T]) -> _T:
        """One row of sqlite3's as a struct, by the names of its columns.

        Columns that the struct does not have are left out; `price_minor` and
        `price_currency` make a field `price`.

        Raises: RowShapeError (NOT_DONE) where a field is missing or of another type.
        """
        shape = self._shape
        values = list(raw)
        for at, process in shape.converters:
            values[at] = process(values[at])
        named = dict(zip(shape.columns, values, strict=True))
        for stem, at, other in shape.row_amounts:
            if values[at] is not None:
                named[stem] = Money.from_minor(values[at], values[other])
            else:
                named.setdefault(stem, None)
        try:
            return msgspec.convert(named, type_)
        except msgspec.ValidationError as error:
            raise RowShapeError(
                f"A row of module {shape.module!r} cannot become {type_.__name__}: {error}. It "
                f"has: {', '.join(named)}. Select what the struct needs, under its names."
            ) from error


def _marks(size: int, width: int) -> str:
    if not width:
        return ", ".join("?" * size)
    one = f"({', '.join('?' * width)})"
    return "VALUES " + ", ".join([one] * size)


def _with_amounts(shape: Shape, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace each amount of money by its two columns."""
    changed: dict[str, Any] | None = None
    for stem, minor, currency in shape.amounts:
        amount = parameters.get(stem, _MISSING)
        if amount is _MISSING or stem in shape.names:
            continue
        changed = dict(parameters) if changed is None else changed
        del changed[stem]
        if amount is None:
            changed[minor] = changed[currency] = None
        elif isinstance(amount, Money):
            changed[minor], changed[currency] = amount.minor, amount.currency
        else:
            raise ParameterError(
                f"The parameter {stem!r} of a statement of module {shape.module!r} is "
                f"{type(amount).__name__}, not Money. Nothing was run. Pass Money, or {minor!r} "
                f"and {currency!r}."
            )
    return parameters if changed is None else changed


def _renderer(
    shape: Shape, constants: Mapping[str, Any]
) -> Callable[[Mapping[str, Any], str], tuple[Any, ...]]:
    """A function that makes the tuple of values; written out, it takes a third of a loop's time."""
    bound: dict[str, Any] = {}
    parts = []
    for at, slot in enumerate(shape.slots):
        if slot.key == TENANT_PARAMETER:
            parts.append("tenant")
        elif slot.required:
            taken = f"given[{slot.key!r}]"
            if slot.process is not None:
                bound[f"p{at}"] = slot.process
                taken = f"p{at}({taken})"
            parts.append(taken)
        else:
            value = constants[slot.name]
            bound[f"c{at}"] = value if slot.process is None else slot.process(value)
            parts.append(f"c{at}")
    source = f"lambda given, tenant: ({''.join(part + ', ' for part in parts)})"
    made: Callable[[Mapping[str, Any], str], tuple[Any, ...]] = eval(source, bound)
    return made
