"""The API's reference page: one HTML file, made on the server, without JavaScript.

The wheels that carry a viewer's assets are either too old for OpenAPI 3.1
(swagger-ui-bundle has Swagger UI 4) or bring a web framework with them. This
page needs neither, works offline, and can be read by a screen reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from tenfold.edges.http.openapi import openapi_document, problem_codes
from tenfold.edges.http.settings import HttpProduct

__all__ = ["EXAMPLE_ORIGIN", "example_of", "reference_page", "type_text"]

EXAMPLE_ORIGIN = "http://tenfold.invalid"
"""Stands in the examples for where the page is asked for: it is made once, for every host."""

_ABOUT = (
    "Requests and replies are JSON, or MessagePack where <code>Content-Type</code> and "
    "<code>Accept</code> say so. The same in OpenAPI 3.1: "
    "<a href='/openapi.json'>/openapi.json</a>."
)
_ABOUT_PROBLEMS = (
    "Every refusal and every fault is answered as <code>application/problem+json</code> "
    "(RFC 9457), with its <code>code</code>, its <code>outcome</code> and a "
    "<code>trace_id</code>."
)
_METHODS = ("get", "post", "put", "patch", "delete")
_CODE = re.compile(r"`([^`]+)`")
_GENERIC = re.compile(r"^(\w+?)_(\w+)_$")
_EXAMPLES: dict[str, Any] = {
    "uuid": "01890000-0000-7000-8000-000000000001",
    "date": "2026-11-20",
    "date-time": "2026-11-20T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "decimal": "2.55",
    "byte": "aGVsbG8=",
}


def reference_page(product: HttpProduct) -> bytes:
    """The whole page, in UTF-8, with `EXAMPLE_ORIGIN` in its examples."""
    document = openapi_document(product)
    style = Path(__file__).with_name("reference.css").read_text("utf-8")
    title = escape(product.name)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title} · API</title><style>{style}</style></head><body><div class='frame'>",
        *_navigation(document),
        f"<main><h1>{title}<small>version {escape(product.version)}</small></h1>",
        f"<p class='lead'>{escape(document['info']['description'])} {_ABOUT}</p>",
        *_contracts(document),
        "<h2 id='types'>Types</h2>",
        *_types(document),
        f"<h2 id='problems'>Problems</h2><p class='lead'>{_ABOUT_PROBLEMS}</p>",
        *_problems(problem_codes(product)),
        "</main></div></body></html>",
    ]
    return "".join(parts).encode("utf-8")


def type_text(schema: dict[str, Any]) -> str:
    """A schema in a few words, as HTML."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        shown = _GENERIC.sub(r"\1[\2]", name)
        return f"<a href='#type-{name}'>{shown}</a>"
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    options = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if options:
        return " or ".join(type_text(option) for option in options)
    if schema.get("type") == "array":
        inner = schema.get("items")
        return f"list of {type_text(inner)}" if isinstance(inner, dict) else "list"
    kind = schema.get("type", "anything")
    name = str(schema.get("format") or (" or ".join(kind) if isinstance(kind, list) else kind))
    return escape(name) + _limits(schema)


def example_of(schema: dict[str, Any], schemas: dict[str, Any], depth: int = 0) -> Any:
    """A value that a schema might allow, for an example to begin from."""
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return example_of(schema[key][0], schemas, depth)
    kind = schema.get("type")
    if kind == "object":
        properties = schema.get("properties", {}) if depth < 6 else {}
        return {name: example_of(s, schemas, depth + 1) for name, s in properties.items()}
    if kind == "array":
        items = schema.get("items")
        return [example_of(items, schemas, depth + 1)] if items and depth < 6 else []
    if kind in ("integer", "number"):
        return max(1, schema.get("minimum", 1))
    if kind == "boolean":
        return True
    return _EXAMPLES.get(schema.get("format", ""), "text")


def _prose(text: str) -> str:
    """Text with `code` in backticks, as HTML."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def _brief(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema less its pattern, where a description says the same for people."""
    if "description" in schema:
        return {name: value for name, value in schema.items() if name != "pattern"}
    return schema


def _limits(schema: dict[str, Any]) -> str:
    found = []
    if "minimum" in schema or "maximum" in schema:
        found.append(f"{schema.get('minimum', '…')} to {schema.get('maximum', '…')}")
    if "minLength" in schema or "maxLength" in schema:
        found.append(f"{schema.get('minLength', 0)} to {schema.get('maxLength', '…')} characters")
    if "pattern" in schema and not found:
        found.append(f"<code>{escape(schema['pattern'])}</code>")
    return f" <span class='plain'>({', '.join(found)})</span>" if found else ""


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def _navigation(document: dict[str, Any]) -> Iterator[str]:
    """The list of operations, twice: at the side, and folded where there is no side.

    Style shows one of them. It cannot open or close a single one by the width.
    """
    listed = "".join(_index(document))
    yield "<nav aria-label='Operations'>"
    yield f"<div class='beside'>{listed}</div>"
    yield f"<details class='folded'><summary>Operations</summary>{listed}</details></nav>"


def _index(document: dict[str, Any]) -> Iterator[str]:
    for tag in document["tags"]:
        name = tag["name"]
        yield f"<h2>{escape(name)}</h2><ul>"
        for method, _, operation in _operations(document):
            if name in operation["tags"]:
                label = escape(operation["operationId"].rpartition(".")[2])
                yield (
                    f"<li><a href='#{escape(operation['operationId'])}'>"
                    f"<span class='method {method}'>{method.upper()}</span>{label}</a></li>"
                )
        yield "</ul>"
    yield "<h2>Reference</h2><ul><li><a href='#types'>Types</a></li>"
    yield "<li><a href='#problems'>Problems</a></li></ul>"


def _contracts(document: dict[str, Any]) -> Iterator[str]:
    schemas = document["components"]["schemas"]
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>"
        if tag.get("description"):
            yield f"<p class='lead'>{escape(tag['description'])}</p>"
        for method, path, operation in _operations(document):
            if tag["name"] in operation["tags"]:
                yield from _operation(method, path, operation, schemas)


def _operation(
    method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]
) -> Iterator[str]:
    name = escape(operation["operationId"])
    who = operation["x-tenfold"]["who"]
    yield (
        f"<details class='operation' id='{name}' open><summary>"
        f"<span class='method {method}'>{method.upper()}</span><code>{escape(path)}</code>"
        f"<span class='what'>{escape(operation['summary'])}</span></summary><div class='inside'>"
    )
    if operation["description"] != operation["summary"]:
        yield f"<p>{_prose(operation['description'])}</p>"
    caller = "for anyone" if who == "anyone" else f"needs the permission {who}"
    yield f"<p><span class='who'>{escape(caller)}</span></p>"
    body = _json_schema(operation.get("requestBody", {}))
    rows = [
        (p["name"], p["in"], p["schema"], p["required"], p.get("description", ""))
        for p in operation["parameters"]
    ]
    required = body.get("required", ())
    for field, schema in body.get("properties", {}).items():
        rows.append((field, "body", schema, field in required, schema.get("description", "")))
    rows.sort(key=lambda row: row[1] == "header")
    yield from _rows("Arguments", rows)
    yield f"<h4>Example</h4><pre>{escape(_curl(method, path, operation, schemas))}</pre>"
    yield from _answers(operation, schemas)
    yield "</div></details>"


def _rows(title: str, rows: list[tuple[str, str, dict[str, Any], bool, str]]) -> Iterator[str]:
    if not rows:
        return
    yield f"<h4>{title}</h4><div class='scroll'><table class='arguments'>"
    yield "<tr><th>Name</th><th>In</th><th>Type</th><th>Meaning</th></tr>"
    for name, place, schema, required, description in rows:
        must = " <span class='must'>required</span>" if required else ""
        default = schema.get("default")
        if default not in (None, [], ""):
            shown = msgspec.json.encode(default).decode()
            description = f"{description} Default {shown}.".strip()
        yield (
            f"<tr><td><code>{escape(name)}</code>{must}</td><td>{place}</td>"
            f"<td>{type_text(_brief(schema))}</td><td>{_prose(description)}</td></tr>"
        )
    yield "</table></div>"


def _answers(operation: dict[str, Any], schemas: dict[str, Any]) -> Iterator[str]:
    yield "<h4>Answers</h4><div class='scroll'><table class='answers'>"
    others: list[str] = []
    for status, response in operation["responses"].items():
        if int(status) < 300:
            schema = _json_schema(response)
            shown = type_text(schema) if schema else "no body"
            yield (
                f"<tr><td><code>{status}</code></td><td>{shown}</td>"
                f"<td>{_prose(response['description'])}</td></tr>"
            )
            continue
        own = [name for name in _problem_names(response) if name != "Problem"]
        for name in own:
            properties = schemas[name]["properties"]
            code = properties["code"]["const"]
            fields = ", ".join(list(properties)[7:])
            yield (
                f"<tr><td><code>{status}</code></td>"
                f"<td><a href='#problem-{escape(code)}'>{escape(code)}</a>"
                f"{f' <span class=plain>with {escape(fields)}</span>' if fields else ''}</td>"
                f"<td>{escape(schemas[name]['description'])}</td></tr>"
            )
        if not own and int(status) >= 400:
            others.append(status)
    yield "</table></div>"
    shown = ", ".join(others)
    yield f"<p class='plain'>As every operation: {shown}; see <a href='#problems'>Problems</a>.</p>"


def _json_schema(holder: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = holder.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _problem_names(response: dict[str, Any]) -> list[str]:
    schema = response.get("content", {}).get("application/problem+json", {}).get("schema", {})
    options: Iterable[dict[str, Any]] = schema.get("anyOf", [schema])
    return [option["$ref"].rpartition("/")[2] for option in options if "$ref" in option]


def _curl(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    query: list[str] = []
    lines: list[str] = []
    for parameter in operation["parameters"]:
        name, example = parameter["name"], example_of(parameter["schema"], schemas)
        if parameter["in"] == "path":
            path = path.replace(f"{{{name}}}", str(example))
        elif parameter["in"] == "query" and parameter["required"]:
            query.append(f"{name}={example}")
        elif name == "Idempotency-Key":
            lines.append('-H "Idempotency-Key: $(uuidgen)"')
    target = path + ("?" + "&".join(query) if query else "")
    verb = "" if method == "get" else f" -X {method.upper()}"
    lines.insert(0, f"curl{verb} '{EXAMPLE_ORIGIN}{target}'")
    body = _json_schema(operation.get("requestBody", {}))
    if body.get("properties"):
        text = msgspec.json.encode(example_of(body, schemas)).decode().replace("'", "'\\''")
        lines += ["-H 'Content-Type: application/json'", f"-d '{text}'"]
    return " \\\n  ".join(lines)


def _types(document: dict[str, Any]) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        if name.endswith("Problem") and "trace_id" in schema.get("properties", {}):
            continue
        yield f"<section class='type' id='type-{escape(name)}'><h3>{escape(name)}</h3>"
        if schema.get("description"):
            yield f"<p class='plain'>{_prose(schema['description'])}</p>"
        if "properties" not in schema:
            yield f"<p>{type_text(schema)}</p></section>"
            continue
        required = schema.get("required", ())
        yield "<div class='scroll'><table class='fields'>"
        for field, inner in schema["properties"].items():
            optional = "" if field in required else " <span class='plain'>optional</span>"
            yield (
                f"<tr><td><code>{escape(field)}</code>{optional}</td><td>{type_text(inner)}</td>"
                f"<td>{escape(inner.get('description', ''))}</td></tr>"
            )
        yield "</table></div></section>"


def _problems(codes: dict[str, str]) -> Iterator[str]:
    yield "<section class='type'><div class='scroll'><table class='problems'>"
    for code, sentence in codes.items():
        yield (
            f"<tr id='problem-{escape(code)}'><td><code>{escape(code)}</code></td>"
            f"<td>{escape(sentence)}</td></tr>"
        )
    yield "</table></div></section>"
