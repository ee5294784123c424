"""Routing: from a path to what is served there, compiled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import ContractError
from tenfold.edges.http.errors import UnreadableRequestError
from tenfold.edges.http.pages import RESERVED_PREFIXES

__all__ = ["Place", "Routes", "add_operation", "split_path"]

_T = TypeVar("_T")


class Place(Generic[_T]):
    """One path pattern, and what is served there for each method."""

    __slots__ = ("allowed", "methods", "owners")

    def __init__(self) -> None:
        self.methods: dict[str, _T] = {}
        self.owners: dict[str, str] = {}
        self.allowed: tuple[str, ...] = ("OPTIONS",)

    def add(self, method: str, target: _T, owner: str) -> None:
        """Serve a method; HEAD comes with GET."""
        self.methods[method] = target
        self.owners[method] = owner
        if method == "GET":
            self.methods["HEAD"] = target
        self.allowed = tuple(sorted({*self.methods, "OPTIONS"}))


class _Node(Generic[_T]):
    __slots__ = ("literals", "parameter", "place")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[_T]] = {}
        self.parameter: _Node[_T] | None = None
        self.place: Place[_T] | None = None


class Routes(Generic[_T]):
    """All path patterns of a product.

    A literal segment goes before a parameter, from left to right, as OpenAPI
    has it; and the first pattern that fits the whole path serves it, whatever
    the method. A path without parameters is one dictionary look-up.
    """

    __slots__ = ("_literal", "_root")

    def __init__(self) -> None:
        self._root: _Node[_T] = _Node()
        self._literal: dict[bytes, Place[_T]] = {}

    def add(self, method: str, path: str, target: _T, owner: str) -> None:
        """Serve `target` at a pattern such as `/v1/products/{product_id}`.

        Raises: ContractError naming both owners where the pattern is taken.
        """
        node = self._root
        segments = path[1:].split("/")
        for segment in segments:
            if segment.startswith("{") and segment.endswith("}"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            elif "{" in segment or "}" in segment:
                raise ContractError(
                    f"The route {method} {path} of {owner} has {segment!r}. A parameter is a "
                    "whole segment: /{name}/."
                )
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.place is None:
            node.place = Place()
        if method in node.place.owners:
            raise ContractError(
                f"{owner} and {node.place.owners[method]} are both served at {method} {path}. "
                "Give one of them another route."
            )
        node.place.add(method, target, owner)
        if "{" not in path:
            self._literal[path.encode("ascii")] = node.place

    def find(self, raw_path: bytes) -> tuple[Place[_T] | None, Sequence[str]]:
        """What is served at a path, with the values of its parameters in order.

        Args:
            raw_path: the path as it was sent, still percent-encoded.
        Raises: UnreadableRequestError where its percent-encoding is wrong.
        """
        place = self._literal.get(raw_path)
        if place is not None:
            return place, ()
        values: list[str] = []
        return _find(self._root, split_path(raw_path), 0, values), values


def add_operation(routes: Routes[_T], spec: OperationSpec, make: Callable[[], _T]) -> None:
    """Serve an operation that has a route there; the edge does, and who only checks a product.

    Args:
        make: what is served, made once the path is known to be free for contracts.
    Raises: ContractError where the route is Tenfold's or taken; what `make` raises.
    """
    method, path = spec.declaration.method or "", spec.declaration.path or ""
    owner = f"{spec.contract}.{spec.name}"
    if path.startswith(RESERVED_PREFIXES):
        raise ContractError(
            f"The route {method} {path} of {owner} is under {path.split('/')[1]!r}, which "
            "Tenfold keeps for itself. Give it another path."
        )
    routes.add(method, path, make(), owner)


def split_path(raw_path: bytes) -> list[str]:
    """The decoded segments of a path: an encoded slash stays inside its segment."""
    try:
        if b"%" not in raw_path:
            return raw_path.decode("ascii")[1:].split("/")
        return [unquote_to_bytes(part).decode("utf-8") for part in raw_path[1:].split(b"/")]
    except UnicodeDecodeError as error:
        raise UnreadableRequestError(
            "The path of the request is not percent-encoded UTF-8. Encode what is not a letter, "
            "digit or one of -._~ as %XX.",
            field="path",
        ) from error


def _find(node: _Node[_T], segments: list[str], at: int, values: list[str]) -> Place[_T] | None:
    if at == len(segments):
        return node.place
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        place = _find(literal, segments, at + 1, values)
        if place is not None:
            return place
    if node.parameter is not None and segment:
        values.append(segment)
        place = _find(node.parameter, segments, at + 1, values)
        if place is not None:
            return place
        values.pop()
    return None
