"""The OpenAPI 3.1 document of a product, made from its contracts.

It names every answer that the edge can give: each declared refusal with its
fields, and the general problems. Two makings of it are equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

import msgspec

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import (
    DeadlineExceededError,
    InvalidArgumentsError,
    KeyReusedError,
    NotPermittedError,
    OverloadedError,
    StoreUnavailableError,
    TenfoldError,
)
from tenfold.contracts.operations import Kind
from tenfold.contracts.refusals import Refusal
from tenfold.edges.http import errors
from tenfold.edges.http.endpoint import has_body
from tenfold.edges.http.problems import ERROR_STATUS, sentence_of
from tenfold.edges.http.replies import LocationRule
from tenfold.edges.http.settings import HttpProduct

__all__ = ["general_problems", "openapi_document", "problem_codes", "reason_of"]

_REF = "#/components/schemas/{name}"
_FORMS = ("application/json", "application/msgpack")
_PROBLEM_FORMS = ("application/problem+json", "application/problem+msgpack")
_REASONS = {
    200: "Done.",
    201: "Made. `Location` says where it is.",
    204: "Done; there is nothing to say.",
    304: "What the caller has is still right (`If-None-Match`).",
}
_ERRORS: tuple[type[TenfoldError], ...] = (
    errors.UnreadableRequestError,
    errors.CrossOriginError,
    NotPermittedError,
    errors.RouteNotFoundError,
    errors.MethodNotAllowedError,
    errors.NotAcceptableError,
    errors.SlowRequestError,
    errors.BodyTooLargeError,
    errors.TargetTooLongError,
    errors.UnsupportedMediaTypeError,
    errors.MisdirectedError,
    InvalidArgumentsError,
    KeyReusedError,
    errors.HeadersTooLargeError,
    errors.EdgeFaultError,
    OverloadedError,
    StoreUnavailableError,
    DeadlineExceededError,
)
_BODY_ONLY = (
    errors.SlowRequestError,
    errors.BodyTooLargeError,
    errors.UnsupportedMediaTypeError,
)


def openapi_document(product: HttpProduct) -> dict[str, Any]:
    """The whole document, as plain values."""
    routed = product.routed()
    schemas = _Schemas(routed.values())
    paths: dict[str, dict[str, Any]] = {}
    for name, spec in routed.items():
        path, method = spec.declaration.path or "", spec.declaration.method or ""
        paths.setdefault(path, {})[method.lower()] = _operation(name, spec, product, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": product.name,
            "version": product.version,
            "description": product.description or f"The HTTP interface of {product.name}.",
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(s.contract for s in routed.values())],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.components().items())),
            "headers": _HEADERS,
        },
    }


def general_problems(spec: OperationSpec) -> dict[int, list[type[TenfoldError]]]:
    """The problems that an operation can answer with beside its refusals, by status."""
    found: dict[int, list[type[TenfoldError]]] = {}
    for error in _ERRORS:
        if error in _BODY_ONLY and not has_body(spec):
            continue
        if error is KeyReusedError and spec.kind is not Kind.COMMAND:
            continue
        if error is errors.CrossOriginError and spec.declaration.method == "GET":
            continue
        if error is NotPermittedError and spec.declaration.who == "anyone":
            continue
        found.setdefault(_status_of(error), []).append(error)
    return dict(sorted(found.items()))


def problem_codes(product: HttpProduct) -> dict[str, str]:
    """Every problem of a product, by its code, with its sentence."""
    found: dict[str, str] = {error.code: sentence_of(error) for error in _ERRORS}
    for spec in product.routed().values():
        for refusal in spec.declaration.raises:
            found[refusal.code] = refusal.sentence()
    return dict(sorted(found.items()))


def reason_of(spec: OperationSpec) -> tuple[int, str]:
    """The status of an operation's success, and what it means."""
    if spec.result is None:
        return 204, _REASONS[204]
    if spec.declaration.created is not None:
        return 201, _REASONS[201]
    return 200, _REASONS[200]


def _status_of(error: type[TenfoldError]) -> int:
    if issubclass(error, errors.HttpError):
        return error.status
    return ERROR_STATUS[error.code]


def _operation(
    name: str, spec: OperationSpec, product: HttpProduct, schemas: _Schemas
) -> dict[str, Any]:
    declaration = spec.declaration
    summary, _, rest = spec.doc.partition("\n")
    made: dict[str, Any] = {
        "operationId": name,
        "tags": [spec.contract],
        "summary": summary or name,
        "description": rest.strip() or summary or name,
        "x-tenfold": {
            "kind": declaration.kind.value,
            "who": declaration.who,
            "timeout_s": declaration.timeout_s,
        },
        "parameters": [*_parameters(spec, schemas), *_request_headers(spec, product)],
        "responses": _responses(spec, schemas),
    }
    link = _link(name, spec, product)
    if link is not None:
        made["responses"]["201"]["links"] = link
    if has_body(spec):
        body = schemas.body_of(spec)
        made["requestBody"] = {
            "required": bool(body.get("required")),
            "content": {form: {"schema": body} for form in _FORMS},
        }
    return made


def _link(name: str, spec: OperationSpec, product: HttpProduct) -> dict[str, Any] | None:
    """What a `created=` command made, read with the query that `Location` leads to."""
    if spec.declaration.created is None:
        return None
    target = f"{name.rpartition('.')[0]}.{spec.declaration.created}"
    query = product.operations[target]
    rule = LocationRule(spec, query)
    return {
        spec.declaration.created: {
            "operationId": target,
            "parameters": {
                parameter: f"${'response' if in_reply else 'request'}.body#/{field}"
                for parameter, (field, in_reply) in zip(
                    query.path_parameters, rule.sources, strict=True
                )
            },
        }
    }


def _parameters(spec: OperationSpec, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    properties = schemas.arguments_of(spec)
    required = properties.get("required", ())
    for name, schema in properties.get("properties", {}).items():
        in_path = name in spec.path_parameters
        if not in_path and has_body(spec):
            continue
        parameter: dict[str, Any] = {
            "name": name,
            "in": "path" if in_path else "query",
            "required": in_path or name in required,
            "schema": {**schema, "minLength": max(1, schema.get("minLength", 1))}
            if in_path and schema.get("type") == "string" and "format" not in schema
            else _in_query(schema),
        }
        if "description" in schema:
            parameter["description"] = schema["description"]
        yield parameter


def _in_query(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema less `null`: a query string leaves a parameter out where JSON would say null."""
    schema = {key: value for key, value in schema.items() if value is not None or key != "default"}
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if "anyOf" in schema:
        schema.pop("anyOf")
        schema = {**schema, **options[0]} if len(options) == 1 else {**schema, "anyOf": options}
    return schema


def _request_headers(spec: OperationSpec, product: HttpProduct) -> Iterator[dict[str, Any]]:
    if spec.kind is Kind.COMMAND:
        yield _header(
            "Idempotency-Key",
            "A new key for each new piece of work. Sent again with the same request, it gives "
            "the first reply.",
            {"type": "string", "pattern": "^[!-~]{1,255}$"},
            required=spec.declaration.key == "required",
        )
        if spec.declaration.settled_by:
            yield _header(
                "Prefer",
                "`wait=N` waits up to N seconds for the outcome (RFC 7240), at most "
                f"{product.settings.max_wait_s:g}.",
                {"type": "string", "examples": ["wait=5"]},
            )
    else:
        yield _header(
            "If-None-Match",
            "The `ETag` of an earlier answer: 304 where it is still right.",
            {"type": "string"},
        )
    yield _header(
        "Tenfold-Position",
        "The position of an earlier reply: the answer is at least as new as that.",
        {"type": "string", "pattern": "^[!-~]{1,512}$"},
    )


def _header(
    name: str, description: str, schema: dict[str, Any], *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": schema,
    }


def _responses(spec: OperationSpec, schemas: _Schemas) -> dict[str, Any]:
    status, reason = reason_of(spec)
    made: dict[str, Any] = {str(status): _success(spec, schemas, status, reason)}
    if spec.kind is Kind.QUERY and spec.result is not None:
        made["304"] = {"description": _REASONS[304], "headers": _refs("ETag", "Tenfold-Trace-Id")}
    general = general_problems(spec)
    refusals: dict[int, list[type[Refusal]]] = {}
    for refusal in spec.declaration.raises:
        refusals.setdefault(refusal.status, []).append(refusal)
    for code in sorted({*general, *refusals}):
        declared = refusals.get(code, [])
        others = general.get(code, [])
        sentences = [kind.sentence() for kind in declared] + [sentence_of(e) for e in others]
        options = [{"$ref": _REF.format(name=schemas.problem_name(kind))} for kind in declared]
        if others:
            options.append({"$ref": _REF.format(name="Problem")})
        schema = options[0] if len(options) == 1 else {"anyOf": options}
        headers = ["Tenfold-Trace-Id", *_EXTRA_HEADERS.get(code, ())]
        made[str(code)] = {
            "description": " ".join(dict.fromkeys(sentences)),
            "headers": _refs(*headers),
            "content": {form: {"schema": schema} for form in _PROBLEM_FORMS},
        }
    return made


def _success(spec: OperationSpec, schemas: _Schemas, status: int, reason: str) -> dict[str, Any]:
    names = ["Tenfold-Trace-Id", "Tenfold-Position", "Cache-Control"]
    if spec.kind is Kind.QUERY:
        names += ["ETag", "Tenfold-Behind"] if spec.result is not None else []
    else:
        names.append("Idempotency-Replayed")
        if spec.declaration.settled_by:
            names += ["Preference-Applied", "Tenfold-Settled"]
    if status == 201:
        names.append("Location")
    made: dict[str, Any] = {"description": reason, "headers": _refs(*names)}
    if spec.result is not None:
        schema = schemas.result_of(spec)
        made["content"] = {form: {"schema": schema} for form in _FORMS}
    return made


def _refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _text(description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"description": description, "schema": {"type": "string", **schema}}
    if required:
        made["required"] = True
    return made


_EXTRA_HEADERS = {405: ("Allow",), 415: ("Accept",), 503: ("Retry-After",)}
_HEADERS: dict[str, Any] = {
    "Accept": _text("The media types that are read.", required=True),
    "Allow": _text("The methods that the path is served for.", required=True),
    "Cache-Control": _text("How long, and by whom, the answer may be kept.", required=True),
    "ETag": _text("A tag of the answer, for `If-None-Match`.", required=True),
    "Idempotency-Replayed": _text(
        "The reply is the one that was first given under the key.", enum=["true"]
    ),
    "Location": _text("Where what was made is found.", required=True),
    "Preference-Applied": _text("The preference that was followed."),
    "Retry-After": _text("Seconds before it is worth trying again.", required=True),
    "Tenfold-Behind": _text(
        "The answer is from a projection that has not reached the position asked for.",
        enum=["true"],
    ),
    "Tenfold-Position": _text("How new the answer is; send it back to read your own writes."),
    "Tenfold-Settled": _text(
        "Whether the outcome came while the caller waited.", enum=["true", "false"]
    ),
    "Tenfold-Trace-Id": _text(
        "The trace of the request, in the logs too.", required=True, pattern="^[0-9a-f]{32}$"
    ),
}


class _Schemas:
    """The JSON Schemas of all that travels, each type once."""

    def __init__(self, specs: Iterable[OperationSpec]) -> None:
        kinds: dict[Any, None] = {}
        self._refusals: dict[type[Refusal], type[msgspec.Struct]] = {}
        for spec in specs:
            kinds[spec.arguments] = None
            if spec.result is not None:
                kinds[spec.result] = None
            for refusal in spec.declaration.raises:
                self._refusals[refusal] = refusal.payload_type()
        kinds.update(dict.fromkeys(self._refusals.values()))
        order = list(kinds)
        made, components = msgspec.json.schema_components(order, ref_template=_REF)
        self._components: dict[str, dict[str, Any]] = _tidy(components)
        self._by_type: dict[Any, dict[str, Any]] = dict(zip(order, _tidy(list(made)), strict=True))
        self._inner = {spec.arguments.__name__ for spec in specs}

    def arguments_of(self, spec: OperationSpec) -> dict[str, Any]:
        """The schema of an operation's arguments, written out."""
        return self._written_out(self._by_type[spec.arguments])

    def body_of(self, spec: OperationSpec) -> dict[str, Any]:
        """The schema of an operation's body: its arguments less those of the path."""
        whole = self.arguments_of(spec)
        inner = {k: v for k, v in whole["properties"].items() if k not in spec.path_parameters}
        required = [name for name in whole.get("required", ()) if name in inner]
        body = {"type": "object", "properties": inner, "additionalProperties": False}
        return {**body, "required": required} if required else body

    def result_of(self, spec: OperationSpec) -> dict[str, Any]:
        """The schema of what an operation returns."""
        return self._by_type[spec.result]

    def components(self) -> dict[str, Any]:
        """The named schemas that the document refers to."""
        hidden = {t.__name__ for t in self._refusals.values()} | self._inner
        kept = {name: s for name, s in self._components.items() if name not in hidden}
        kept["Problem"] = _problem_schema()
        for refusal, payload in self._refusals.items():
            fields = self._written_out(self._by_type[payload])
            kept[self.problem_name(refusal)] = _refusal_schema(refusal, fields)
        return kept

    def problem_name(self, refusal: type[Refusal]) -> str:
        """The name of a refusal's schema; numbered where two modules use one name."""
        namesakes = [other for other in self._refusals if other.__name__ == refusal.__name__]
        at = namesakes.index(refusal)
        return f"{refusal.__name__}{at + 1 if at else ''}Problem"

    def _written_out(self, schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = self._components[name] if name else schema
        return found


def _tidy(schema: Any) -> Any:
    """A schema as callers should read it.

    Descriptions lose the indentation of their docstrings, and an exact number
    may come as a number too: it is always sent as a string.
    """
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _tidy(value) for key, value in schema.items()}
    if isinstance(made.get("description"), str):
        made["description"] = cleandoc(made["description"])
    if made.get("format") == "decimal" and made.get("type") == "string":
        made["type"] = ["string", "number"]
    return made


def _problem_schema() -> dict[str, Any]:
    return {
        "title": "Problem",
        "description": "Why a request was not answered as asked (RFC 9457).",
        "type": "object",
        "properties": {
            **_problem_properties(),
            "errors": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": {"type": "string", "description": "The place, dotted."},
                        "detail": {"type": "string"},
                    },
                    "required": ["field", "detail"],
                },
            },
        },
        "required": ["type", "title", "status", "code", "outcome", "trace_id", "detail"],
    }


def _problem_properties() -> dict[str, Any]:
    return {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "code": {"type": "string"},
        "outcome": {
            "enum": ["not_done", "maybe_done", "done"],
            "description": "What became of the work: only `not_done` is safe to send again "
            "without an Idempotency-Key.",
        },
        "trace_id": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }


def _refusal_schema(refusal: type[Refusal], fields: dict[str, Any]) -> dict[str, Any]:
    properties = _problem_properties()
    properties["code"] = {"const": refusal.code}
    properties["status"] = {"const": refusal.status}
    properties.update(fields.get("properties", {}))
    return {
        "title": refusal.__name__,
        "description": refusal.sentence(),
        "type": "object",
        "properties": properties,
        "required": [
            *("type", "title", "status", "code", "outcome", "trace_id", "detail"),
            *fields.get("required", ()),
        ],
    }
