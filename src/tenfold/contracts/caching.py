"""Tags of cached answers: texts filled in from arguments or from an event's fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING, Any, get_args, get_origin

import msgspec

from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Declaration, Kind
from tenfold.contracts.structs import Event

if TYPE_CHECKING:
    from tenfold.contracts.contract import OperationSpec

__all__ = ["TagTemplate", "check_caching", "event_tags"]

_PIECE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LITERAL = re.compile(r"[A-Za-z0-9_.:/-]*")
LONGEST_S = 7 * 24 * 3600.0
"""The longest that an answer is kept: a week."""


class TagTemplate:
    """A tag such as `"product:{product_id}"`, read once and filled in for each answer."""

    __slots__ = ("_literals", "fields", "shape", "text")

    def __init__(self, text: str, place: str) -> None:
        """Read a template. Raises: ContractError naming `place`."""
        pieces = _PIECE.split(text)
        self.text = text
        self.fields = tuple(pieces[1::2])
        self._literals = tuple(pieces[0::2])
        self.shape = "{}".join(self._literals)
        """The template without its fields' names, by which a command finds a query's tags."""
        if not text or not all(_LITERAL.fullmatch(literal) for literal in self._literals):
            raise ContractError(
                f"{place} has the tag {text!r}, which cannot be read. A tag is letters, digits "
                'and _ . : / - with names of arguments in braces: "product:{product_id}".'
            )

    def fill(self, values: Any) -> str:
        """The tag for the values of a struct that has the template's fields."""
        text = self._literals[0]
        for name, literal in zip(self.fields, self._literals[1:], strict=True):
            value = getattr(values, name)
            text += f"{value.value if isinstance(value, Enum) else value}{literal}"
        return text


def event_tags(tags: tuple[TagTemplate, ...], fields: tuple[str, ...]) -> tuple[TagTemplate, ...]:
    """The tags of a query that an event's fields fill in.

    Those that have fields and find them all in the event; where no tag has
    fields, all of them. A tag without fields beside others names every answer
    of the query, which one product's event must not drop.
    """
    if not any(tag.fields for tag in tags):
        return tags
    return tuple(tag for tag in tags if tag.fields and set(tag.fields) <= set(fields))


def check_caching(contract: str, operations: Mapping[str, OperationSpec]) -> None:
    """Refuse caching that cannot work, at start. Raises: ContractError naming the operation."""
    shapes: dict[str, str] = {}
    for spec in operations.values():
        if spec.kind is Kind.QUERY:
            for tag in _check_query(f"{contract}.{spec.name}", spec):
                shapes[tag.shape] = tag.text
    for spec in operations.values():
        place = f"{contract}.{spec.name}"
        for text in spec.declaration.invalidates:
            tag = _read_tag(text, place, spec.arguments)
            if tag.shape not in shapes:
                near = get_close_matches(tag.shape, shapes, 1, 0.0)
                hint = f" The nearest is {shapes[near[0]]!r}." if near else ""
                raise ContractError(
                    f"{place} says invalidates={text!r}, which no query of {contract} has among "
                    f"its tags, so that it would drop nothing.{hint}"
                )


def _check_query(place: str, spec: OperationSpec) -> list[TagTemplate]:
    said = spec.declaration
    if said.cache_s is None:
        _refuse_without_life(place, said)
        return []
    if not 0 < said.cache_s <= LONGEST_S:
        raise ContractError(
            f"{place} says cache_s={said.cache_s:g}, which is outside 0 to {LONGEST_S:g} seconds."
        )
    if not 0 <= said.stale_if_error_s <= LONGEST_S:
        raise ContractError(
            f"{place} says stale_if_error_s={said.stale_if_error_s:g}, which is outside 0 to "
            f"{LONGEST_S:g} seconds."
        )
    if said.cache_for not in ("principal", "everyone"):
        raise ContractError(
            f'{place} says cache_for={said.cache_for!r}. Say "principal" (an answer belongs to '
            'who asked) or "everyone" (all callers of a tenant share it).'
        )
    tags = [_read_tag(text, place, spec.arguments) for text in said.tags]
    for event in said.invalidated_by:
        _check_event(place, tuple(tags), event)
    return tags


def _refuse_without_life(place: str, said: Declaration) -> None:
    for name in ("tags", "invalidated_by", "stale_if_error_s"):
        if getattr(said, name):
            raise ContractError(
                f"{place} says {name}= without cache_s=, so that nothing is kept. Say for how "
                "many seconds an answer may be kept, or drop it."
            )
    if said.cache_for != "principal":
        raise ContractError(
            f"{place} says cache_for={said.cache_for!r} without cache_s=, so that nothing is "
            "kept. Say for how many seconds an answer may be kept, or drop it."
        )


def _read_tag(text: str, place: str, arguments: type[msgspec.Struct]) -> TagTemplate:
    tag = TagTemplate(text, place)
    known = {field.name: field.type for field in msgspec.structs.fields(arguments)}
    for name in tag.fields:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.0)
            hint = f" The nearest is {near[0]!r}." if near else ""
            raise ContractError(
                f"{place} has the tag {text!r}, and {name!r} is none of its arguments "
                f"{list(known)}.{hint}"
            )
        if _is_many(known[name]):
            raise ContractError(
                f"{place} has the tag {text!r}, and its argument {name!r} is not one value. Tag "
                "by an argument that is a text, a number, a UUID, a date or a choice."
            )
    return tag


def _is_many(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is None:
        return annotation in (list, tuple, set, frozenset, dict) or (
            isinstance(annotation, type) and issubclass(annotation, msgspec.Struct)
        )
    if origin in (list, tuple, set, frozenset, dict):
        return True
    return any(_is_many(part) for part in get_args(annotation) if isinstance(part, type))


def _check_event(place: str, tags: tuple[TagTemplate, ...], event: Any) -> None:
    if not (isinstance(event, type) and issubclass(event, Event)):
        raise ContractError(f"{place} says invalidated_by={event!r}, which is not an Event.")
    if not tags:
        raise ContractError(
            f"{place} says invalidated_by={event.__name__} and has no tags, so that nobody can "
            'tell which answers it drops. Name them: tags=("product:{product_id}",).'
        )
    if not event_tags(tags, event.__struct_fields__):
        raise ContractError(
            f"{place} says invalidated_by={event.__name__}, whose fields "
            f"{list(event.__struct_fields__)} fill none of its tags "
            f"{[tag.text for tag in tags]}. Tag by a field that the event has."
        )
