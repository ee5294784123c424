"""Teaches the checker MessagePack, so that it speaks both forms of the document."""

from __future__ import annotations

from typing import Any

import msgspec
import schemathesis


@schemathesis.serializer("application/msgpack")
def pack(context: Any, value: Any) -> Any:
    return msgspec.msgpack.encode(_packable(value))


@schemathesis.deserializer("application/msgpack", "application/problem+msgpack")
def unpack(context: Any, response: Any) -> Any:
    return msgspec.msgpack.decode(response.content)


def _packable(value: Any) -> Any:
    """The same value, but for numbers and texts that MessagePack has no room for."""
    if isinstance(value, dict):
        return {_packable(key): _packable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return -1e300 if value < 0 else 1e300
    if value is None or isinstance(value, bool | int | float | bytes):
        return value
    return str(value)
