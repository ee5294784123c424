"""The files that pages are made of: style, script, pictures; kept by browsers for a year."""

from __future__ import annotations

from functools import cache
from hashlib import blake2s
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from store.web.art import draw

__all__ = ["picture", "static", "versions"]

_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"
_BRIEFLY = "public, max-age=300"


@cache
def versions() -> dict[str, str]:
    """Each file's name and a version that changes with its content."""
    return {path.name: _version(path.read_bytes()) for path in sorted(_FOLDER.iterdir())}


async def static(request: Request) -> Response:
    """A static file. Under the address of another version it is the present one, kept briefly."""
    name, version = request.path_params["name"], request.path_params.get("version")
    if name not in versions():
        return Response(status_code=404)
    body, kind = (_FOLDER / name).read_bytes(), _TYPES[Path(name).suffix]
    return _cached(request, body, kind, _FOR_EVER if version == versions()[name] else _BRIEFLY)


async def picture(request: Request) -> Response:
    """A product's picture. Its address says all that it depends on."""
    drawn = draw(request.path_params["art"])
    if drawn is None:
        return Response(status_code=404)
    return _cached(request, drawn.encode(), _TYPES[".svg"], "public, max-age=604800")


def _cached(request: Request, body: bytes, kind: str, keep: str) -> Response:
    etag = f'"{_version(body)}"'
    headers = {"ETag": etag, "Cache-Control": keep}
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    # A weak comparison, as RFC 9110 13.1.2 asks of If-None-Match.
    if any(tag in ("*", etag, f"W/{etag}") for tag in known):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=kind, headers=headers)


def _version(content: bytes) -> str:
    return blake2s(content, digest_size=6).hexdigest()
