"""Arguments: from path, query string and body to the validated struct of an operation.

What cannot be read (JSON, percent-encoding, a name twice in the query string) is a 400.
What can be read and is not what the contract asks for is a 422 that names the field. Of a
name that a JSON object has twice the last is read, as in most readers (RFC 8259, section 4).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import msgspec
import msgspec.inspect as inspect

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import InvalidArgumentsError
from tenfold.edges.http.amounts import check_amounts, has_money
from tenfold.edges.http.errors import UnreadableRequestError
from tenfold.edges.http.forms import Form

__all__ = ["ArgumentReader", "open_ended"]

_LISTS = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.TupleType,
)
_NAMED = re.compile(r"`([^`]*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")


class ArgumentReader:
    """Reads the arguments of one operation; compiled once."""

    __slots__ = (
        "_arguments",
        "_body_type",
        "_decoders",
        "_empty",
        "_has_money",
        "_lists",
        "_max_depth",
        "_null_is_absent",
        "_open_ended",
        "_path_names",
        "_path_type",
        "body_fields",
        "body_required",
    )

    def __init__(self, spec: OperationSpec, max_depth: int) -> None:
        self._arguments = spec.arguments
        self._path_names = spec.path_parameters
        fields = msgspec.structs.fields(spec.arguments)
        in_path = [field for field in fields if field.name in spec.path_parameters]
        in_body = [field for field in fields if field.name not in spec.path_parameters]
        self._path_type = _part(spec, "Path", in_path) if in_path else None
        self._body_type = _part(spec, "Body", in_body) if in_path else spec.arguments
        self.body_fields = tuple(field.name for field in in_body)
        self.body_required = any(field.required for field in in_body)
        self._decoders: dict[bool, Any] = {
            True: msgspec.json.Decoder(self._body_type),
            False: msgspec.msgpack.Decoder(self._body_type),
        }
        shape = inspect.type_info(spec.arguments)
        assert isinstance(shape, inspect.StructType)
        self._lists = frozenset(f.name for f in shape.fields if _is_list(f.type))
        self._null_is_absent = frozenset(f.name for f in shape.fields if _reads_null(f.type))
        body_shape = inspect.type_info(self._body_type)
        self._open_ended = open_ended(body_shape)
        self._has_money = has_money(body_shape)
        self._max_depth = max_depth
        self._empty = spec.arguments() if not fields else None

    def of_query(self, values: Sequence[str], query: bytes) -> msgspec.Struct:
        """Arguments of a request without a body.

        Args:
            values: the values of the path's parameters, in order.
            query: the query string as it was sent.
        Raises: UnreadableRequestError, InvalidArgumentsError (NOT_DONE).
        """
        if not query:
            if self._empty is not None:
                return self._empty
            given: dict[str, Any] = dict(zip(self._path_names, values, strict=True))
        else:
            given = self._read_query(query)
            for name, value in zip(self._path_names, values, strict=True):
                if name in given:
                    raise UnreadableRequestError(
                        f"{name!r} is part of the path and was given in the query string too. "
                        "Send it once, in the path.",
                        field=name,
                    )
                given[name] = value
        for name in self._null_is_absent.intersection(given):
            # msgspec would read the text "null" as None; in a target it is a value like any other.
            if str(given[name]).lower() == "null":
                raise InvalidArgumentsError(
                    f"{name}: found 'null', which is text here. Leave {name} out instead.",
                    field=name,
                    detail="found 'null'; leave it out instead",
                )
        try:
            return msgspec.convert(given, self._arguments, strict=False)
        except msgspec.ValidationError as error:
            _refuse(error, self._arguments)

    def of_body(self, values: Sequence[str], body: bytes, form: Form) -> msgspec.Struct:
        """Arguments of a request with a body.

        Raises: UnreadableRequestError, InvalidArgumentsError (NOT_DONE).
        """
        read = self._read_body(body, form)
        if self._path_type is None:
            return read
        try:
            path = msgspec.convert(
                dict(zip(self._path_names, values, strict=True)), self._path_type, strict=False
            )
        except msgspec.ValidationError as error:
            _refuse(error, self._path_type)
        parts = {name: getattr(path, name) for name in self._path_names}
        for name in self.body_fields:
            parts[name] = getattr(read, name)
        return self._arguments(**parts)

    def without_body(self, values: Sequence[str]) -> msgspec.Struct:
        """Arguments of a request whose body is empty, where all that is required is in the path."""
        return self.of_query(values, b"")

    def _read_body(self, body: bytes, form: Form) -> msgspec.Struct:
        try:
            try:
                read: msgspec.Struct = self._decoders[form.is_json].decode(body)
            except msgspec.ValidationError as error:
                if not (form.is_json and "got `float`" in str(error)):
                    raise
                read = self._with_whole_numbers(body)
            if self._open_ended and _depth(msgspec.to_builtins(read)) > self._max_depth:
                raise RecursionError
            if self._has_money:
                decode = msgspec.json.decode if form.is_json else msgspec.msgpack.decode
                check_amounts(read, decode(body))
            return read
        except msgspec.ValidationError as error:
            _refuse(error, self._body_type)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            name = "JSON" if form.is_json else "MessagePack"
            raise UnreadableRequestError(
                f"The body could not be read as {name}: {_plain(str(error))}"
            ) from error
        except RecursionError as error:
            raise UnreadableRequestError(
                f"The body is nested more than {self._max_depth} levels deep, which this "
                "product does not read."
            ) from error

    def _with_whole_numbers(self, body: bytes) -> msgspec.Struct:
        """Read JSON again in which a whole number is written as `2.0`, as JSON Schema allows."""
        whole = _whole_numbers(msgspec.json.decode(body))
        read: msgspec.Struct = msgspec.convert(
            whole, self._body_type, builtin_types=(), str_keys=True
        )
        return read

    def _read_query(self, query: bytes) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for pair in query.split(b"&"):
            if not pair:
                continue
            raw_name, _, raw_value = pair.partition(b"=")
            name, value = _unquote(raw_name), _unquote(raw_value)
            if name in self._lists:
                given.setdefault(name, []).append(value)
            elif name not in given:
                given[name] = value
            else:
                raise UnreadableRequestError(
                    f"{name!r} was given more than once. Send it once.",
                    field=name,
                    detail="given more than once",
                )
        return given


def _part(spec: OperationSpec, part: str, fields: list[Any]) -> type[msgspec.Struct]:
    made: list[Any] = []
    for field in fields:
        if field.default is not msgspec.NODEFAULT:
            made.append((field.name, field.type, field.default))
        elif field.default_factory is not msgspec.NODEFAULT:
            default = msgspec.field(default_factory=field.default_factory)
            made.append((field.name, field.type, default))
        else:
            made.append((field.name, field.type))
    return msgspec.defstruct(
        f"{spec.arguments.__name__}_{part}",
        made,
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=spec.arguments.__module__,
    )


def _unquote(raw: bytes) -> str:
    try:
        if b"%" in raw or b"+" in raw:
            raw = unquote_to_bytes(raw.replace(b"+", b" "))
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableRequestError(
            "The query string is not percent-encoded UTF-8. Encode what is not a letter, digit "
            "or one of -._~ as %XX.",
            field="query",
        ) from error


def _is_list(shape: inspect.Type) -> bool:
    if isinstance(shape, inspect.UnionType):
        return any(_is_list(part) for part in shape.types)
    if isinstance(shape, inspect.Metadata):
        return _is_list(shape.type)
    return isinstance(shape, _LISTS)


def _reads_null(shape: inspect.Type) -> bool:
    parts = _unwrap(shape)
    return any(isinstance(part, inspect.NoneType) for part in parts) and not any(
        isinstance(part, inspect.StrType) for part in parts
    )


def open_ended(shape: Any, seen: frozenset[Any] = frozenset()) -> bool:
    """Whether values of a type can be nested without an end: `Any`, or a type within itself."""
    if isinstance(shape, inspect.AnyType | inspect.RawType):
        return True
    if isinstance(shape, inspect.Metadata):
        return open_ended(shape.type, seen)
    if isinstance(shape, inspect.UnionType):
        return any(open_ended(part, seen) for part in shape.types)
    if isinstance(shape, inspect.DictType):
        return open_ended(shape.value_type, seen)
    if isinstance(shape, inspect.TupleType):
        return any(open_ended(part, seen) for part in shape.item_types)
    item = getattr(shape, "item_type", None)
    if item is not None:
        return open_ended(item, seen)
    fields = getattr(shape, "fields", None)
    if fields is None:
        return False
    if shape.cls in seen:
        return True
    return any(open_ended(field.type, seen | {shape.cls}) for field in fields)


def _whole_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return {name: _whole_numbers(inner) for name, inner in value.items()}
    return [_whole_numbers(inner) for inner in value] if isinstance(value, list) else value


def _depth(value: Any) -> int:
    """How deeply lists and dicts are nested, without recursion."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        if isinstance(item, dict):
            waiting += [(inner, level + 1) for inner in item.values()]
        elif isinstance(item, list | tuple):
            waiting += [(inner, level + 1) for inner in item]
        else:
            continue
        deepest = max(deepest, level)
    return deepest


def _refuse(error: msgspec.ValidationError, root: type) -> NoReturn:
    text, _, place = str(error).partition(" - at `$")
    field = ".".join(name or index for name, index in _STEP.findall(place.rstrip("`")))
    found = _NAMED.search(text)
    hint = ""
    if found and text.startswith("Object contains unknown field"):
        hint = _nearest(found[1], _names_at(root, field))
        field = f"{field}.{found[1]}" if field else found[1]
        detail = f"there is no field of this name{hint}"
    elif found and text.startswith("Object missing required field"):
        field = f"{field}.{found[1]}" if field else found[1]
        detail = "is required and missing"
    else:
        detail = _plain(text)
    shown = field or "the body"
    raise InvalidArgumentsError(
        f"{shown}: {detail}. Nothing was done.", field=field or "body", detail=detail
    ) from error


def _plain(text: str) -> str:
    text = text.replace("`", "").strip().rstrip(".")
    return text[:1].lower() + text[1:] if text[:1].isupper() and not text[:2].isupper() else text


def _nearest(name: str, candidates: Sequence[str]) -> str:
    close = get_close_matches(name, candidates, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(candidates)})" if candidates else " (there are none)"


def _names_at(root: type, field: str) -> tuple[str, ...]:
    """The field names of the struct at a dotted place; none where it cannot be told."""
    shapes: list[Any] = [inspect.type_info(root)]
    for step in field.split(".") if field else ():
        shapes = [inner for shape in shapes for inner in _inside(_unwrap(shape), step)]
    for shape in shapes:
        for part in _unwrap(shape):
            if isinstance(part, inspect.StructType):
                return tuple(f.encode_name for f in part.fields)
    return ()


def _unwrap(shape: Any) -> list[Any]:
    if isinstance(shape, inspect.Metadata):
        return _unwrap(shape.type)
    if isinstance(shape, inspect.UnionType):
        return [inner for part in shape.types for inner in _unwrap(part)]
    return [shape]


def _inside(shapes: list[Any], step: str) -> list[Any]:
    found: list[Any] = []
    for shape in shapes:
        if isinstance(shape, inspect.DictType):
            found.append(shape.value_type)
        elif isinstance(shape, inspect.TupleType):
            found += shape.item_types
        elif hasattr(shape, "item_type"):
            found.append(shape.item_type)
        else:
            found += [f.type for f in getattr(shape, "fields", ()) if f.encode_name == step]
    return found
