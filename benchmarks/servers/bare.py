"""A bare ASGI application with msgspec: as little as one can write."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from benchmarks.servers.contract import Name, Pieces, Sku, Thing

__all__ = ["app"]

_ID = UUID("0190163d-8694-739b-aea5-966c26f8ad90")


class _Body(msgspec.Struct):
    sku: Sku
    name: Name
    quantity: Pieces
    tags: list[Name]


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve the two routes, and `/ready`."""
    if scope["type"] != "http":
        return
    path = scope["path"]
    status = 200
    if path == "/ready":
        body = b"{}"
    elif scope["method"] == "GET" and path.startswith("/v1/things/"):
        try:
            thing_id = UUID(path[11:])
            body = _encode(
                Thing(id=thing_id, sku="85123A", name="White heart", quantity=6, tags=["a", "b"])
            )
        except ValueError:
            status, body = 422, b'{"detail":"no UUID"}'
    else:
        message = await receive()
        sent = message["body"]
        while message.get("more_body"):
            message = await receive()
            sent += message["body"]
        try:
            read = _decode(sent)
            body = _encode(
                Thing(id=_ID, sku=read.sku, name=read.name, quantity=read.quantity, tags=read.tags)
            )
        except msgspec.ValidationError as error:
            status, body = 422, _encode({"detail": str(error)})
    headers = [_JSON, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
