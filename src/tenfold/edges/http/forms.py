"""The forms in which requests and replies are written, and who wants which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from tenfold.edges.http.errors import NotAcceptableError, UnsupportedMediaTypeError

__all__ = ["JSON", "MSGPACK", "Form", "form_of_content", "negotiate", "problem_form"]


class Form:
    """One way to write values as bytes.

    `content_type` and `problem_type` are header values; `encode` is shared by
    all requests, and keeps no state between them.
    """

    __slots__ = ("content_type", "encode", "is_json", "problem_type")

    def __init__(self, media_type: str, problem_type: str, encode: Callable[[Any], bytes]) -> None:
        self.content_type = media_type.encode("ascii")
        self.problem_type = problem_type.encode("ascii")
        self.encode = encode
        self.is_json = "json" in media_type


_msgpack = msgspec.msgpack.Encoder(decimal_format="string").encode
JSON = Form(
    "application/json",
    "application/problem+json",
    msgspec.json.Encoder(decimal_format="string").encode,
)
MSGPACK = Form("application/msgpack", "application/problem+msgpack", _msgpack)
# The name that IANA registered and the older one: who asks by it is answered by it.
_VENDOR = Form("application/vnd.msgpack", "application/problem+msgpack", _msgpack)
_OLD = Form("application/x-msgpack", "application/problem+msgpack", _msgpack)
_FORMS = {form.content_type.decode("ascii"): form for form in (JSON, MSGPACK, _VENDOR, _OLD)}
_REMEMBERED = 256
_by_accept: dict[bytes, Form | None] = {b"*/*": JSON, b"application/json": JSON}
_by_content: dict[bytes, Form | None] = {}


def negotiate(accept: bytes | None) -> Form:
    """The form that an Accept header prefers (RFC 9110, section 12.5.1); JSON if it does not say.

    Raises: NotAcceptableError where it admits neither.
    """
    if accept is None:
        return JSON
    try:
        form = _by_accept[accept]
    except KeyError:
        form = _decide_form(accept.decode("latin-1"))
        if len(_by_accept) < _REMEMBERED:
            _by_accept[accept] = form
    if form is None:
        raise NotAcceptableError(
            f"This is answered as application/json or application/msgpack, and the Accept header "
            f"{accept[:200].decode('latin-1')!r} admits neither."
        )
    return form


def problem_form(accept: bytes | None) -> Form:
    """The form for a problem: what the caller prefers, JSON where it accepts neither."""
    try:
        return negotiate(accept)
    except NotAcceptableError:
        return JSON


def form_of_content(content_type: bytes | None) -> Form:
    """The form that a Content-Type header names.

    A body without one is refused: browsers can send such a body to any origin
    without asking, and then it must not be read as a command.

    Raises: UnsupportedMediaTypeError.
    """
    key = content_type or b""
    try:
        form = _by_content[key]
    except KeyError:
        form = _read_content_type(key.decode("latin-1"))
        if len(_by_content) < _REMEMBERED:
            _by_content[key] = form
    if form is None:
        found = f"is {key[:200].decode('latin-1')!r}" if key else "has no Content-Type"
        raise UnsupportedMediaTypeError(
            f"The body {found}. Send application/json (in UTF-8) or application/msgpack, "
            "and say so in Content-Type."
        )
    return form


def _read_content_type(text: str) -> Form | None:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    form = _FORMS.get(media)
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            return None
    return form


def _decide_form(accept: str) -> Form | None:
    """Which form has the highest weight; the first of `_FORMS` among equals."""
    ranges = [_read_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return JSON
    best: tuple[float, Form] | None = None
    for name, form in _FORMS.items():
        weight = _weight(name, ranges)
        if weight > 0 and (best is None or weight > best[0]):
            best = (weight, form)
    return best[1] if best else None


def _read_range(part: str) -> tuple[str, float]:
    media, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            weight = _read_weight(value.strip())
    return media, weight


def _read_weight(text: str) -> float:
    # Malformed weights count as 0, so that a caller is never sent what it may have excluded.
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit()):
        return 0.0
    return min(float(text), 1.0)


def _weight(name: str, ranges: list[tuple[str, float]]) -> float:
    """The weight of the most specific range that matches."""
    family = name.partition("/")[0] + "/*"
    for wanted in (name, family, "*/*"):
        weights = [weight for media, weight in ranges if media == wanted]
        if weights:
            return max(weights)
    return 0.0
