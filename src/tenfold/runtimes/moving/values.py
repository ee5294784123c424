"""Values on their way from SQLite to PostgreSQL, and the form in which both are compared.

What a value becomes is read off the target's column, so that columns which no
code declares any more come along too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import msgspec

__all__ = ["Convert", "canonical", "fingerprint", "to_target"]

Convert = Callable[[Any], Any]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DAY_ZERO: Final = date(1970, 1, 1)
_NUMERIC: Final = re.compile(r"numeric\(\d+,(\d+)\)")
_encode: Final = msgspec.msgpack.Encoder().encode


def _whole_or_float(text: str) -> int | float:
    exact = Decimal(text)
    return int(exact) if exact == exact.to_integral_value() else float(text)


_read_json: Final = msgspec.json.Decoder(float_hook=_whole_or_float).decode
_write_json: Final = msgspec.json.Encoder(order="sorted").encode


def to_target(type_: str) -> Convert:
    """What makes a column's value of what SQLite has.

    Args:
        type_: the target's, as `format_type` writes it.
    """
    numeric = _NUMERIC.fullmatch(type_)
    if numeric is not None:
        places = int(numeric[1])
        return lambda value: Decimal(value).scaleb(-places) if type(value) is int else value
    return _TO_TARGET.get(type_, _as_it_is)


def canonical(type_: str) -> Convert:
    """What makes the form in which values are compared and summed, of a target's value."""
    numeric = _NUMERIC.fullmatch(type_)
    if numeric is not None:
        places = int(numeric[1])
        return lambda value: None if value is None else int(Decimal(value).scaleb(places))
    return _CANONICAL.get(type_, _as_it_is)


def fingerprint(row: list[Any]) -> int:
    """64 bits of a row in its compared form. Their sum does not depend on the order of rows."""
    return int.from_bytes(blake2b(_encode(row), digest_size=8).digest(), "big")


def _as_it_is(value: Any) -> Any:
    return value


def _uuid(value: Any) -> Any:
    return UUID(bytes=value) if type(value) is bytes else value


def _moment(value: Any) -> Any:
    if type(value) is int:
        return _EPOCH + timedelta(microseconds=value)
    return datetime.fromisoformat(value) if type(value) is str else value


def _day(value: Any) -> Any:
    if type(value) is int:
        return _DAY_ZERO + timedelta(days=value)
    return date.fromisoformat(value) if type(value) is str else value


def _flag(value: Any) -> Any:
    return bool(value) if type(value) is int else value


def _since(value: Any) -> Any:
    return None if value is None else (value - _EPOCH) // _MICROSECOND


_TO_TARGET: Final[dict[str, Convert]] = {
    "uuid": _uuid,
    "timestamp with time zone": _moment,
    "timestamp without time zone": _moment,
    "date": _day,
    "boolean": _flag,
    "double precision": lambda value: float(value) if type(value) is int else value,
}
_CANONICAL: Final[dict[str, Convert]] = {
    "uuid": lambda value: None if value is None else value.bytes,
    "timestamp with time zone": _since,
    "timestamp without time zone": lambda value: None if value is None else value.isoformat(),
    "date": lambda value: None if value is None else (value - _DAY_ZERO).days,
    "jsonb": lambda value: None if value is None else _write_json(_read_json(value)),
}
