"""The column types of a module's tables, and the columns that come in a fixed shape.

SQLAlchemy's own types for text, whole numbers, booleans and bytes serve as they
are. Those that SQLite would lose something of are here: identifiers, moments,
days, structs, exact decimals, money.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import BigInteger, Column, Date, LargeBinary, MetaData, Numeric, String, Text, types
from sqlalchemy import DateTime as _DateTime
from sqlalchemy import Uuid as _Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine.interfaces import Dialect

from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.tables.errors import ParameterError, TableDeclarationError

__all__ = [
    "CURRENCY_SUFFIX",
    "MINOR_SUFFIX",
    "TENANT",
    "CheckedInteger",
    "CheckedText",
    "Day",
    "Exact",
    "Instant",
    "Json",
    "Minor",
    "Uuid",
    "metadata",
    "money",
    "tenant",
]

TENANT: Final = "tenant"
"""The name of the column that says whose a row is."""
MINOR_SUFFIX: Final = "_minor"
CURRENCY_SUFFIX: Final = "_currency"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_ZERO: Final = date(1970, 1, 1)
_INT64: Final = 2**63
_ESCAPED_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NAMING: Final = {
    "ix": "%(table_name)s_%(column_0_N_name)s_index",
    "uq": "%(table_name)s_%(column_0_N_name)s_unique",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_reference",
    "pk": "%(table_name)s_key",
}
_Process = Callable[[Any], Any]


def metadata() -> MetaData:
    """A collection for one module's tables, in which every constraint has a name.

    A constraint's own `name=` is kept (a check's is put behind its table's
    name); the others get `{table}_{columns}_unique`, `_index`, `_reference`,
    and `{table}_key` for the primary key.
    """
    return MetaData(naming_convention=_NAMING)


def tenant() -> Column[str]:
    """The column that says whose a row is: the first of the primary key, filled by the platform.

    Handlers never read, compare or write it.
    """
    return Column(TENANT, Text, primary_key=True, nullable=False)


def money(
    name: str, *, nullable: bool = False, primary_key: bool = False
) -> tuple[Column[int], Column[str]]:
    """An amount of money as two columns: `{name}_minor` and `{name}_currency`.

    Written `*money("price")` in a table. A parameter `price=Money(...)` fills
    both, where a statement has a `bindparam` for each; a row that has both
    has `price`, and so has a struct that is made of it.
    """
    return (
        Column(name + MINOR_SUFFIX, Minor(), nullable=nullable, primary_key=primary_key),
        Column(name + CURRENCY_SUFFIX, String(3), nullable=nullable, primary_key=primary_key),
    )


def _unfit(value: object, wanted: str, mend: str) -> ParameterError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ParameterError(f"{shown} cannot be stored as {wanted}. Nothing was run. {mend}")


def _nul(value: object) -> InvalidArgumentsError:
    shown = repr(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return InvalidArgumentsError(
        f"A text has the character NUL, which not every database can store: {shown}. Nothing was "
        "run. Leave the character out."
    )


class CheckedText(types.String):
    """What an adapter makes of plain text columns: values that both databases store alike."""

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From a str without the character NUL, which PostgreSQL cannot store.

        With one it is the caller's mistake, as a rule: InvalidArgumentsError.
        """

        def process(value: Any) -> Any:
            if value is None:
                return None
            if not isinstance(value, str):
                raise _unfit(value, "text", "Pass a str.")
            if "\0" in value:
                raise _nul(value)
            return value

        return process


class CheckedInteger(types.Integer):
    """What an adapter makes of plain columns of whole numbers."""

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From an int of at most 64 bits; a bool counts as 0 or 1."""

        def process(value: Any) -> Any:
            if value is None or (isinstance(value, int) and -_INT64 <= value < _INT64):
                return value
            raise _unfit(value, "a whole number of 64 bits", "Pass an int.")

        return process


class Uuid(types.TypeDecorator[UUID]):
    """A UUID: 16 bytes on SQLite, `uuid` on PostgreSQL."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        """The type of the database itself."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_Uuid(as_uuid=True, native_uuid=True))
        return dialect.type_descriptor(LargeBinary(16))

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From a `UUID`; anything else is refused."""
        native = dialect.name == "postgresql"

        def process(value: Any) -> Any:
            if isinstance(value, UUID):
                return value if native else value.bytes
            if value is None:
                return None
            raise _unfit(value, "a UUID", "Pass a uuid.UUID.")

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """To a `UUID`."""
        convert = msgspec.convert  # a third of the cost of UUID(bytes=...)

        def process(value: Any) -> Any:
            return None if value is None else convert(value, UUID)

        def process_native(value: Any) -> Any:  # asyncpg gives a class of its own
            return None if value is None else convert(value.bytes, UUID)

        return process_native if dialect.name == "postgresql" else process


class Instant(types.TypeDecorator[datetime]):
    """A moment: microseconds since 1970 UTC on SQLite, `timestamptz` on PostgreSQL.

    Refuses a datetime without a time zone; gives datetimes in UTC.
    """

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        """The type of the database itself."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(_DateTime(timezone=True))
        return dialect.type_descriptor(BigInteger())

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From a datetime that knows its time zone."""
        native = dialect.name == "postgresql"

        def process(value: Any) -> Any:
            if value is None:
                return None
            if not isinstance(value, datetime) or value.utcoffset() is None:
                raise _unfit(
                    value, "a moment", "Pass a datetime with a time zone, such as now() gives."
                )
            return value if native else (value - _EPOCH) // _MICROSECOND

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """To a datetime in UTC."""
        if dialect.name == "postgresql":
            return None

        def process(value: Any) -> Any:
            return None if value is None else _EPOCH + timedelta(microseconds=value)

        return process


class Day(types.TypeDecorator[date]):
    """A calendar day: days since 1970-01-01 on SQLite, `date` on PostgreSQL."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        """The type of the database itself."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Date())
        return dialect.type_descriptor(BigInteger())

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From a date; a datetime is refused, since its day depends on a time zone."""
        native = dialect.name == "postgresql"

        def process(value: Any) -> Any:
            if type(value) is date:
                return value if native else (value - _DAY_ZERO).days
            if value is None:
                return None
            raise _unfit(value, "a day", "Pass a date; of a moment, moment.astimezone(UTC).date().")

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """To a date."""
        if dialect.name == "postgresql":
            return None

        def process(value: Any) -> Any:
            return None if value is None else _DAY_ZERO + timedelta(days=value)

        return process


class Minor(types.TypeDecorator[int]):
    """A whole number of a currency's smallest unit, at most 2^63 in size. See `money`."""

    impl = BigInteger
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From an int; floats and decimals are refused."""

        def process(value: Any) -> Any:
            if value is None or (type(value) is int and -_INT64 <= value < _INT64):
                return value
            raise _unfit(value, "an amount in minor units", "Pass an int, such as Money.minor.")

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """As it is on SQLite; an int of PostgreSQL's numeric sums."""
        if dialect.name != "postgresql":
            return None
        return lambda value: None if value is None else int(value)


class Exact(types.TypeDecorator[Decimal]):
    """A decimal with a fixed number of places: a scaled integer on SQLite, `numeric` on PostgreSQL.

    Compares, sorts and sums exactly. Do not multiply two of them in a statement:
    on SQLite the product would be scaled twice.

    Args:
        places: digits after the point, 0 to 12.
    """

    impl = BigInteger
    cache_ok = True

    def __init__(self, places: int) -> None:
        if not 0 <= places <= 12:
            raise TableDeclarationError(
                f"Exact({places}) asks for {places} decimal places; 0 to 12 can be stored exactly."
            )
        self.places = places
        super().__init__()

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        """The type of the database itself."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(Numeric(18 + self.places, self.places))
        return dialect.type_descriptor(BigInteger())

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From a finite Decimal or int that needs no rounding."""
        native, places = dialect.name == "postgresql", self.places

        def process(value: Any) -> Any:
            if value is None:
                return None
            if type(value) is int:
                value = Decimal(value)
            if type(value) is Decimal and value.is_finite():
                scaled = value.scaleb(places)
                whole = int(scaled)
                if whole == scaled and -_INT64 <= whole < _INT64:
                    return value if native else whole
            raise _unfit(
                value, f"a decimal of {places} places", "Pass a Decimal, rounded as you mean it."
            )

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """To a Decimal of exactly so many places."""
        if dialect.name == "postgresql":
            return None
        places = self.places

        def process(value: Any) -> Any:
            return None if value is None else Decimal(value).scaleb(-places)

        return process


class Json(types.TypeDecorator[Any]):
    """A value of a msgspec type, as JSON text on SQLite and `jsonb` on PostgreSQL.

    It is validated when it is read, so a type may only gain optional fields.

    Args:
        of: the type, such as a `Struct` or `list[Line]`.
    """

    impl = Text
    cache_ok = True

    def __init__(self, of: Any) -> None:
        self.of = of
        # SQLAlchemy's key for a statement needs the type to be hashable, which nearly all are.
        self.cache_ok = isinstance(of, Hashable)
        self._decoder = msgspec.json.Decoder(of)
        super().__init__()

    def load_dialect_impl(self, dialect: Dialect) -> types.TypeEngine[Any]:
        """The type of the database itself."""
        if dialect.name == "postgresql":
            return dialect.type_descriptor(JSONB())
        return dialect.type_descriptor(Text())

    def bind_processor(self, dialect: Dialect) -> _Process | None:
        """From the value, checked against the type."""
        encode, of = msgspec.json.encode, self.of

        def process(value: Any) -> Any:
            if value is None:
                return None
            try:
                text = encode(value).decode()
                self._decoder.decode(text)
                if "\\u0000" in text and _ESCAPED_NUL.search(text):
                    raise _nul(value)
            except (msgspec.MsgspecError, TypeError, ValueError) as error:
                raise _unfit(value, f"JSON of {of}", f"{error}") from error
            return text

        return process

    def result_processor(self, dialect: Dialect, coltype: object) -> _Process | None:
        """To the value."""
        decode = self._decoder.decode
        return lambda value: None if value is None else decode(value)
