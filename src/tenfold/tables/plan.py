"""One planned statement: how its parameters are bound, and what its rows are.

What every database's plan has in common. How lists are written, and how the
text numbers its parameters, is the adapter's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from tenfold.contracts.scalars import Money
from tenfold.tables.columns import CURRENCY_SUFFIX, MINOR_SUFFIX
from tenfold.tables.errors import ParameterError, RowShapeError, StatementRefusedError
from tenfold.tables.scoping import GENERATION_MARK, TENANT_PARAMETER, Scope

__all__ = ["MISSING", "Plan", "Process", "Shape", "Slot", "column_defaults", "with_amounts"]

_T = TypeVar("_T")
Process = Callable[[Any], Any]
"""Converts one value on its way into the database, or out of it."""
MISSING: Final = object()


class Slot:
    """One parameter's place in the text.

    `process` converts the value that is given under `key`; a place that takes a
    list is `expanding`.
    """

    __slots__ = ("default", "expanding", "key", "name", "process", "required")

    def __init__(self, name: str, bind: Any, process: Process | None) -> None:
        self.name = name
        self.key = bind.key
        self.process = process
        self.required = bind.required
        self.expanding = bind.expanding
        self.default = None if bind.required else bind.effective_value


class Shape:
    """A compiled statement taken apart; shared by statements that differ in literals only."""

    def __init__(
        self, compiled: Any, text: str, slots: list[Slot], scope: Scope, dialect: Any
    ) -> None:
        self.text = text
        self.slots = slots
        self.module = scope.module
        self.writes = bool(compiled.statement.is_dml)
        self.projections = tuple(dict.fromkeys(GENERATION_MARK.findall(text)))
        self.lists = any(slot.expanding for slot in slots)
        self.names = frozenset(s.key for s in slots if s.required and s.key != TENANT_PARAMETER)
        self.optional = frozenset(
            slot.key for slot in slots if not slot.required and not compiled.binds[slot.name].unique
        )
        self.amounts = tuple(
            (name[: -len(MINOR_SUFFIX)], name, name[: -len(MINOR_SUFFIX)] + CURRENCY_SUFFIX)
            for name in self.names
            if name.endswith(MINOR_SUFFIX)
            and name[: -len(MINOR_SUFFIX)] + CURRENCY_SUFFIX in self.names
        )
        self.columns: tuple[str, ...] = ()
        self.make_row: Callable[[Any], Any] = tuple
        self.converters: tuple[tuple[int, Process], ...] = ()
        self.row_amounts: tuple[tuple[str, int, int], ...] = ()
        self.texts: dict[Any, str] = {}
        self._rows(compiled, dialect)

    def _rows(self, compiled: Any, dialect: Any) -> None:
        entries = compiled._result_columns or []
        self.columns = tuple(str(entry.keyname) for entry in entries)
        if not self.columns:
            return
        cls: Any = namedtuple("Row", self.columns, rename=True)  # type: ignore[misc]
        found = [(i, self.result_processor(entry, dialect)) for i, entry in enumerate(entries)]
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

    def result_processor(self, entry: Any, dialect: Any) -> Process | None:
        """What converts one column of the results; None where it comes as it should be."""
        process: Process | None = entry.type._cached_result_processor(dialect, None)
        return process

    def wrong(self, parameters: Mapping[str, Any]) -> ParameterError:
        """The error for parameters that are not those of the statement."""
        missing = sorted(self.names - parameters.keys())
        unknown = sorted(parameters.keys() - self.names - self.optional)
        found = [f"missing: {', '.join(missing)}"] if missing else []
        found += [f"unknown: {', '.join(unknown)}"] if unknown else []
        return ParameterError(
            f"A statement of module {self.module!r} was run with the wrong parameters "
            f"({'; '.join(found)}). Nothing was run. It takes: "
            f"{', '.join(sorted(self.names | self.optional)) or 'none'}."
        )

    def list_of(self, key: str, given: Any, process: Process | None) -> list[Any]:
        """The converted values of a list parameter. Raises ParameterError for no list."""
        if isinstance(given, str | bytes) or not hasattr(given, "__iter__"):
            raise ParameterError(
                f"The parameter {key!r} of a statement of module {self.module!r} is "
                f"{type(given).__name__}, not a list. Nothing was run. Pass a list."
            )
        return [item if process is None else process(item) for item in given]

    def generation_key(self, generations: Mapping[str, int]) -> tuple[int, ...]:
        """The generations that the text is for; StatementRefusedError where one is missing."""
        try:
            return tuple([generations[name] for name in self.projections])
        except KeyError as error:
            raise StatementRefusedError(
                f"The projection {error.args[0]!r} of module {self.module!r} has no generation "
                "yet. Nothing was run. It gets its tables when the module starts."
            ) from None


def _amount(row: Any, at: int, other: int) -> Money | None:
    return None if row[at] is None else Money.from_minor(row[at], row[other])


def column_defaults(compiled: Any, scope: Scope) -> dict[str, Any]:
    """The constant defaults of columns that an insert or update leaves out, by parameter."""
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


class Plan(ABC):
    """A statement that is ready to run. Immutable; safe for several threads.

    `writes` is whether it changes rows, `columns` are the names of its results.
    """

    __slots__ = ("_constants", "_fast", "_shape", "columns", "writes")

    def __init__(self, shape: Any, literals: Mapping[str, Any]) -> None:
        self._shape = shape
        self.writes: bool = shape.writes
        self.columns: tuple[str, ...] = shape.columns
        constants: dict[str, Any] = {}
        for slot in shape.slots:
            if not slot.required:
                literal = literals.get(slot.key)
                constants[slot.name] = slot.default if literal is None else literal.effective_value
        self._constants = constants
        self._fast = _renderer(shape, constants) if self._is_plain() else None

    def _is_plain(self) -> bool:
        """Whether each slot takes one value, whatever the parameters."""
        return True

    @abstractmethod
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

    def _values(self, parameters: Mapping[str, Any], tenant: str) -> tuple[Any, ...]:
        """The values in the order of the slots. Of a plan that is plain."""
        shape = self._shape
        if shape.amounts:
            parameters = with_amounts(shape, parameters)
        if len(parameters) == len(shape.names) and self._fast is not None:
            try:
                return self._fast(parameters, tenant)
            except KeyError:
                raise shape.wrong(parameters) from None
        self._check_names(parameters)
        return tuple([self._one_value(slot, parameters, tenant) for slot in shape.slots])

    def _check_names(self, parameters: Mapping[str, Any]) -> None:
        shape, names = self._shape, parameters.keys()
        if not shape.names <= names or not names <= shape.names | shape.optional:
            raise shape.wrong(parameters)

    def _one_value(self, slot: Slot, parameters: Mapping[str, Any], tenant: str) -> Any:
        if slot.key == TENANT_PARAMETER:
            return tenant
        value = self._given(slot, parameters)
        return value if slot.process is None else slot.process(value)

    def _given(self, slot: Slot, parameters: Mapping[str, Any]) -> Any:
        value = parameters.get(slot.key, MISSING)
        return self._constants[slot.name] if value is MISSING else value

    def row(self, raw: Any) -> Any:
        """One row of the driver's as a tuple with attributes, its values converted."""
        shape = self._shape
        if shape.converters:
            values = list(raw)
            for at, process in shape.converters:
                values[at] = process(values[at])
            return shape.make_row(values)
        return shape.make_row(raw)

    def value(self, raw: Any) -> Any:
        """The first column of one row of the driver's, converted."""
        converters = self._shape.converters
        if converters and converters[0][0] == 0:
            return converters[0][1](raw[0])
        return raw[0]

    def into(self, raw: Any, type_: type[_T]) -> _T:
        """One row of the driver's as a struct, by the names of its columns.

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


def with_amounts(shape: Shape, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Replace each amount of money by its two columns."""
    changed: dict[str, Any] | None = None
    for stem, minor, currency in shape.amounts:
        amount = parameters.get(stem, MISSING)
        if amount is MISSING or stem in shape.names:
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
