"""How tables of the topology file become structs, and mistakes are told with their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from tenfold.contracts.errors import UserMistakeError
from tenfold.runtimes.places import Keys, Origins, nearest, spell

__all__ = ["coerce", "from_outside", "merge", "read", "type_at"]

_VARIABLES: dict[str, Keys] = {
    "PORT": ("http", "port"),
    "TENFOLD_HOST": ("http", "host"),
    "TENFOLD_DATA": ("data",),
    "TENFOLD_DATABASE_URL": ("database", "url"),
    "TENFOLD_REPLICA_URLS": ("database", "replicas"),
    "TENFOLD_CACHE_URL": ("cache", "url"),
    "TENFOLD_BROKER_URL": ("broker", "url"),
}
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_PREFIXES = (
    "broker",
    "cache",
    "balancer",
    "database",
    "http",
    "limits",
    "processes",
    "queue",
    "services",
    "settings",
    "shedding",
    "tls",
)


def from_outside(
    environ: Mapping[str, str], overrides: Mapping[str, str]
) -> dict[Keys, tuple[str, str]]:
    """Values from the environment and the command line, each with where it came from.

    Raises: UserMistakeError for a variable that is written as one of them and means nothing.
    """
    found: dict[Keys, tuple[str, str]] = {}
    for variable, value in environ.items():
        if variable in _VARIABLES and value != "":
            found[_VARIABLES[variable]] = (value, f"environment variable {variable}")
        elif variable.startswith("TENFOLD_") and "__" in variable:
            keys = tuple(variable.removeprefix("TENFOLD_").lower().split("__"))
            if keys[0] not in _PREFIXES or not all(keys):
                near = nearest(keys[0], _PREFIXES).replace("`", "")
                raise UserMistakeError(
                    f"environment variable {variable}: it sets nothing. A value of the topology "
                    f"is TENFOLD_TABLE__KEY, such as TENFOLD_HTTP__KEY, TENFOLD_QUEUE__KEY or "
                    f"TENFOLD_SETTINGS__MODULE__KEY. "
                    f"{near}"
                )
            found[keys] = (value, f"environment variable {variable}")
    for option, value in overrides.items():
        keys = tuple(option.split("."))
        found[keys] = (value, f"option --{keys[-1]}")
    return found


def merge(
    table: dict[str, Any],
    outside: dict[Keys, tuple[str, str]],
    table_type: type[Any],
    origins: Origins,
) -> dict[str, Any]:
    """A table with the values from outside laid over it; `origins` learns of them."""
    merged = _copy(table)
    for keys, (value, place) in outside.items():
        origins.named[keys] = place
        target = merged
        for key in keys[:-1]:
            below = target.setdefault(key, {})
            if not isinstance(below, dict):
                raise origins.mistake(keys, f"`{spell(keys)}` is below a value.", "")
            target = below
        kind = type_at(table_type, keys)
        target[keys[-1]] = value if kind is None else coerce(value, kind, keys, origins)
    return merged


def coerce(value: str, kind: Any, keys: Keys, origins: Origins) -> Any:
    """A text from outside as the plain value that its type wants; lists are comma-separated."""
    plain: Any = value
    if "tuple[" in str(kind) or "list[" in str(kind):
        plain = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.to_builtins(msgspec.convert(plain, kind, strict=False))
    except msgspec.ValidationError as error:
        raise origins.mistake(
            keys,
            f"`{spell(keys)}` is {value!r}:",
            f"{_plain(str(error)).removesuffix(', got a text')}.",
        ) from None


def _copy(table: dict[str, Any]) -> dict[str, Any]:
    return {k: _copy(v) if isinstance(v, dict) else v for k, v in table.items()}


def type_at(struct: Any, keys: Keys) -> Any:
    """The type at a key path of a struct, through tables and structs; None where there is none."""
    kind: Any = struct
    for key in keys:
        kind = _type_below(kind, key)
    return kind


def _type_below(kind: Any, key: str) -> Any:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
        return fields.get(key)
    origin = get_origin(kind)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return get_args(kind)[1]
    # What is left may hide a table: `Annotated[Table, ...]`, `Table | None`.
    found = (_type_below(part, key) for part in get_args(kind))
    return next((kind for kind in found if kind is not None), None)


def read(value: dict[str, Any], kind: type[Any], keys: Keys, origins: Origins) -> Any:
    """Convert a table into its struct; unknown keys and wrong types are told with their place."""
    _refuse_unknown(value, kind, keys, origins)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        at = keys + tuple(p for p in path.rstrip("`").replace("[...]", "").split(".") if p)
        found: Any = value
        for key in at[len(keys) :]:
            found = found.get(key) if isinstance(found, dict) else None
        said = "the file lacks something:" if not at else f"`{spell(at)}` is {found!r}:"
        if isinstance(found, dict):
            said = f"[{spell(at)}] cannot be read:" if at else "the file cannot be read:"
        raise origins.mistake(at, said, f"{_plain(text)}.") from None


def _plain(text: str) -> str:
    """msgspec's message in the words of someone who writes TOML."""
    text = text.partition(" - at `$")[0]
    for kind, words in _KINDS.items():
        text = text.replace(f"`{kind}`", words)
    return text[0].lower() + text[1:] if text else text


def _refuse_unknown(value: Any, kind: Any, keys: Keys, origins: Origins) -> None:
    if not (
        isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ):
        return
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        if key not in fields:
            raise origins.mistake(
                (*keys, key), f"`{spell((*keys, key))}` is not known here.", nearest(key, fields)
            )
        _refuse_unknown(item, fields[key], (*keys, key), origins)
