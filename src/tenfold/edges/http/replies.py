"""Replies: from what the path answers to status, headers and body."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any
from urllib.parse import quote

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import ContractError
from tenfold.contracts.operations import Kind
from tenfold.edges.http.asgi import Headers
from tenfold.edges.http.client_life import ClientLife
from tenfold.edges.http.exchange import Answer
from tenfold.edges.http.forms import JSON, Form
from tenfold.edges.http.problems import Problem
from tenfold.path.entry import Reply

__all__ = ["LocationRule", "ReplyWriter", "etag_of", "matches_etag", "problem_answer"]

_NOSNIFF = (b"x-content-type-options", b"nosniff")
_VARY = (b"vary", b"accept")
_NOT_STORED = (b"cache-control", b"no-store")
_REVALIDATED = (b"cache-control", b"private, no-cache")


class LocationRule:
    """Where a `created=` command's result is found: the path of its query, filled in."""

    __slots__ = ("_parts", "sources")

    def __init__(self, command: OperationSpec, query: OperationSpec) -> None:
        """Decide, at start, where each parameter of the query's path comes from.

        Raises: ContractError where one comes from nowhere.
        """
        path = query.declaration.path or ""
        self._parts: list[str] = []
        self.sources: list[tuple[str, bool]] = []
        """By parameter of the path: a field, and whether it is the reply's or an argument."""
        literal = ""
        answered = getattr(command.result, "__struct_fields__", ())
        for segment in path[1:].split("/"):
            if not segment.startswith("{"):
                literal += "/" + segment
                continue
            self._parts.append(literal + "/")
            literal = ""
            self.sources.append(_source(segment[1:-1], answered, command, query))
        self._parts.append(literal)

    def locate(self, value: Any, arguments: Any) -> bytes:
        """The path at which `value` is found."""
        text = ""
        for part, (name, in_reply) in zip(self._parts, self.sources, strict=False):
            filled = getattr(value if in_reply else arguments, name)
            text += part + quote(str(filled), safe="")
        return (text + self._parts[-1]).encode("ascii")


def _source(
    parameter: str, answered: Any, command: OperationSpec, query: OperationSpec
) -> tuple[str, bool]:
    if parameter in answered:
        return parameter, True
    if parameter in command.parameters:
        return parameter, False
    if "id" in answered:
        return "id", True
    raise ContractError(
        f"{command.contract}.{command.name} says created={query.name!r}, whose path has "
        f"{{{parameter}}}, and neither its result nor its arguments have {parameter!r} or 'id'. "
        "Return a struct with an id."
    )


class ReplyWriter:
    """Writes the replies of one operation; compiled once."""

    __slots__ = ("_is_query", "_life", "_location", "_waits")

    def __init__(self, spec: OperationSpec, created: OperationSpec | None) -> None:
        declaration = spec.declaration
        self._is_query = spec.kind is Kind.QUERY
        self._waits = bool(declaration.settled_by)
        self._location = LocationRule(spec, created) if created is not None else None
        self._life = ClientLife(spec) if self._is_query and declaration.cache_s else None

    def write(
        self,
        reply: Reply,
        arguments: Any,
        headers: dict[bytes, bytes],
        form: Form,
        wait_s: float | None,
    ) -> Answer:
        """The answer to one request."""
        value = reply.value
        vary = _VARY
        if self._life is not None and not reply.behind:
            reply, vary, kept = self._life.decide(reply, headers)
            out: Headers = [_NOSNIFF, *kept]
        else:
            fresh = self._is_query and not reply.behind
            out = [_NOSNIFF, _REVALIDATED if fresh else _NOT_STORED]
        if reply.position is not None:
            out.append((b"tenfold-position", reply.position.encode("ascii")))
        if self._is_query:
            if reply.behind:
                out.append((b"tenfold-behind", b"true"))
        else:
            if reply.replayed:
                out.append((b"idempotency-replayed", b"true"))
            if wait_s is not None and self._waits:
                out.append((b"preference-applied", b"wait=%d" % wait_s))
                out.append((b"tenfold-settled", b"true" if reply.settled else b"false"))
        if value is None:
            return Answer(204, out, b"")
        body = form.encode(value)
        out.append(vary)
        status = 200
        if self._is_query:
            tag = etag_of(body)
            out.append((b"etag", tag))
            wanted = headers.get(b"if-none-match")
            if wanted is not None and matches_etag(wanted, tag):
                return Answer(304, out, b"")
        elif self._location is not None:
            out.append((b"location", self._location.locate(value, arguments)))
            status = 201
        out.append((b"content-type", form.content_type))
        out.append((b"content-length", b"%d" % len(body)))
        return Answer(status, out, body)


def etag_of(body: bytes) -> bytes:
    """A strong entity tag: a digest of the bytes, the same in every process."""
    return b'"' + blake2b(body, digest_size=12).hexdigest().encode("ascii") + b'"'


def matches_etag(wanted: bytes, tag: bytes) -> bool:
    """Whether an If-None-Match header names a tag, compared weakly (RFC 9110, section 13.1.2)."""
    if wanted in (tag, b"*"):
        return True
    return any(part.strip().removeprefix(b"W/") == tag for part in wanted.split(b","))


def problem_answer(problem: Problem, form: Form) -> Answer:
    """The answer that carries a problem."""
    members = problem.members
    try:
        body = form.encode(members)
    except (TypeError, ValueError, msgspec.EncodeError):
        form, body = JSON, JSON.encode({k: str(v) for k, v in members.items()})
    headers: Headers = [
        _NOSNIFF,
        (b"cache-control", b"no-store"),
        _VARY,
        *problem.headers,
        (b"content-type", form.problem_type),
        (b"content-length", b"%d" % len(body)),
    ]
    return Answer(problem.status, headers, body, problem.outcome_label)
