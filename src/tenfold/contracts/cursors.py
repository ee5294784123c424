"""Cursors: where the next page of a list begins, in a form that callers hand back unread."""

from __future__ import annotations

from base64 import b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Annotated, Any, TypeVar, overload
from uuid import UUID

import msgspec

from tenfold.contracts.errors import InvalidArgumentsError

__all__ = ["Cursor", "Limit", "decode_cursor", "encode_cursor"]

_VERSION = 1
_MAX_CHARACTERS = 1024
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Any])
_A = TypeVar("_A")
_B = TypeVar("_B")
_C = TypeVar("_C")
_D = TypeVar("_D")

Limit = Annotated[
    int, msgspec.Meta(ge=1, le=100, description="How many items a page has, 1 to 100.")
]
"""How many items a page has. Declare it as `limit: Limit = 20`."""

Cursor = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=_MAX_CHARACTERS,
        pattern="^[A-Za-z0-9_-]+$",
        description="The `next` of an earlier page, unchanged.",
    ),
]
"""The `next` of an earlier page. Declare it as `cursor: Cursor | None = None`."""


def encode_cursor(*values: str | int | float | bool | datetime | UUID | None) -> str:
    """Write the sort key of a page's last item as an opaque cursor.

    The values must name one item in the order of the list, so end with the
    item's id: a page that begins after a value that several items share would
    skip some of them. A cursor is readable by whoever takes the trouble; put no
    secret in it.

    Returns: letters, digits, `-` and `_`; no padding.
    """
    packed = _encoder.encode([_VERSION, *values])
    return urlsafe_b64encode(packed).rstrip(b"=").decode("ascii")


@overload
def decode_cursor(text: str, a: type[_A], /) -> tuple[_A]: ...
@overload
def decode_cursor(text: str, a: type[_A], b: type[_B], /) -> tuple[_A, _B]: ...
@overload
def decode_cursor(text: str, a: type[_A], b: type[_B], c: type[_C], /) -> tuple[_A, _B, _C]: ...
@overload
def decode_cursor(
    text: str, a: type[_A], b: type[_B], c: type[_C], d: type[_D], /
) -> tuple[_A, _B, _C, _D]: ...
def decode_cursor(text: str, /, *types: Any) -> tuple[Any, ...]:
    """Read a cursor that `encode_cursor` wrote, and check the type of each of its values.

    Args:
        text: what the caller sent.
        types: of the values, in the order in which they were encoded.
    Raises: InvalidArgumentsError (NOT_DONE), field `cursor`, for anything that
        no page of this list can have given.
    """
    if not text or len(text) > _MAX_CHARACTERS:
        raise _unknown()
    try:
        packed = b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
        version, *values = _decoder.decode(packed)
    except (ValueError, RecursionError) as error:
        raise _unknown() from error
    if version != _VERSION or isinstance(version, bool) or len(values) != len(types):
        raise _unknown()
    try:
        return tuple(
            msgspec.convert(value, type_) for value, type_ in zip(values, types, strict=True)
        )
    except msgspec.ValidationError as error:
        raise _unknown() from error


def _unknown() -> InvalidArgumentsError:
    return InvalidArgumentsError(
        "The cursor is none that this list gave. Send the `next` of an earlier page unchanged, "
        "or leave the cursor out to begin at the first page.",
        field="cursor",
    )
