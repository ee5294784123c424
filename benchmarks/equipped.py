"""The three sides with deadline, identity, trace and circuit breaker at both ends.

Frames: a `RemoteService`, as a gateway calls a service (balancing, budget and bulkhead too, with
one process to choose); the principal travels and is checked for a permission. The others: a
bearer token with an HMAC, its audience and expiry, checked for each call; `traceparent` made for
each call and read; a deadline that both ends hold; the breaker is ours, so that all pay for the
same one.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.echo import (
    AT_ONCE,
    METHOD,
    OPERATIONS,
    SPEC,
    TRACE,
    Ask,
    Said,
    decode,
    encode,
    serve_grpc,
    serve_http,
)
from tenfold.adapters.frames.breaker import Breaker, BreakerState
from tenfold.adapters.frames.endpoints import Fixed
from tenfold.adapters.frames.link import connect
from tenfold.adapters.frames.service import RemoteService
from tenfold.contracts.envelope import Principal, TraceContext
from tenfold.contracts.errors import NotPermittedError
from tenfold.edges.frames import FrameServer
from tenfold.path.entry import Incoming, Reply
from tenfold.path.limit import Limit, SharedTimer
from tenfold.path.module import new_trace
from tenfold.ports.clock import RandomIds
from tenfold.ports.peers import Outgoing

__all__ = ["SIDES"]

TIMEOUT_S = 5.0
_SECRET = b"a secret of both ends, for the benchmark alone"
_CALLER = Principal(id="caller", permissions=("echo",))


class _Claims(msgspec.Struct):
    sub: str
    aud: str
    exp: float
    permissions: list[str]


_encode_claims = msgspec.json.Encoder().encode
_decode_claims = msgspec.json.Decoder(_Claims).decode


def _token() -> str:
    claims = _Claims("caller", "echo", time.time() + 3_600, ["echo"])
    body = base64.urlsafe_b64encode(_encode_claims(claims))
    signed = base64.urlsafe_b64encode(hmac.digest(_SECRET, body, "sha256"))
    return f"Bearer {body.decode()}.{signed.decode()}"


def _admits(authorization: str | None, traceparent: str | None) -> bool:
    """Whether a call may be carried; reads its trace, as who carries on with it must."""
    if authorization is None or traceparent is None:
        return False
    body, _, signature = authorization.removeprefix("Bearer ").partition(".")
    expected = base64.urlsafe_b64encode(hmac.digest(_SECRET, body.encode(), "sha256"))
    if not hmac.compare_digest(expected, signature.encode()):
        return False
    claims = _decode_claims(base64.urlsafe_b64decode(body))
    known = claims.aud == "echo" and claims.exp > time.time() and "echo" in claims.permissions
    return known and TraceContext.parse(traceparent) is not None


class _Guarded:
    """A call of a peer behind a breaker."""

    def __init__(self) -> None:
        self._breaker = Breaker()
        self._loop = asyncio.get_running_loop()

    async def call(self, ask: Ask, said: Said) -> Any:
        breaker = self._breaker
        if breaker.refuses_for(self._loop.time()):
            raise RuntimeError("The circuit is open.")
        probe = breaker.state is not BreakerState.CLOSED
        try:
            answer = await ask(said)
        except Exception:
            breaker.note(self._loop.time(), True, 0.5, probe=probe)
            raise
        breaker.note(self._loop.time(), False, 0.5, probe=probe)
        return answer


class _Echo:
    def __init__(self) -> None:
        self._timer = SharedTimer()

    async def call(self, incoming: Incoming) -> Reply:
        if not incoming.principal.may("echo"):
            raise NotPermittedError("It may not.")
        limit = Limit(incoming.timeout_s or TIMEOUT_S, self._timer)
        value = await limit.run(self._say(incoming.arguments))
        return Reply(value=value, trace=incoming.trace or TRACE)

    async def _say(self, arguments: Any) -> Said:
        return Said(text=arguments.text, number=arguments.number)


async def _serve_frames(place: str) -> None:
    await FrameServer("bench", _Echo(), OPERATIONS).start(Path(place))


@asynccontextmanager
async def _ask_frames(place: str) -> AsyncIterator[Ask]:
    remote = RemoteService("echo", Fixed({place: partial(connect, Path(place))}, links=1))
    timer, ids = SharedTimer(), RandomIds()

    async def ask(said: Said) -> Any:
        outgoing = Outgoing(
            operation=SPEC,
            arguments=SPEC.arguments(text=said.text, number=said.number),
            module="echo",
            principal=_CALLER,
            timeout_s=TIMEOUT_S,
            trace=new_trace(ids, TRACE),
        )
        return (await Limit(TIMEOUT_S, timer).run(remote.call(outgoing))).value

    try:
        yield ask
    finally:
        await remote.close()


async def _serve_aiohttp(place: str) -> None:
    from aiohttp import web

    async def say(request: web.Request) -> web.Response:
        headers = request.headers
        if not _admits(headers.get("authorization"), headers.get("traceparent")):
            return web.Response(status=403)
        async with asyncio.timeout(float(headers["x-timeout"])):
            return web.Response(body=encode(decode(await request.read())))

    await serve_http(place, say)


@asynccontextmanager
async def _ask_aiohttp(place: str) -> AsyncIterator[Ask]:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    limits = aiohttp.ClientTimeout(total=TIMEOUT_S)
    token, ids, guarded = _token(), RandomIds(), _Guarded()
    async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
        url = f"http://127.0.0.1:{place}/say"

        async def ask(said: Said) -> Any:
            headers = {
                "authorization": token,
                "traceparent": new_trace(ids, TRACE).traceparent,
                "x-timeout": str(TIMEOUT_S),
            }
            async with session.post(url, data=encode(said), headers=headers) as answer:
                answer.raise_for_status()
                return decode(await answer.read())

        yield partial(guarded.call, ask)


async def _serve_grpcio(place: str) -> None:
    import grpc

    async def say(request: Said, context: Any) -> Said:
        sent = dict(context.invocation_metadata())
        if not _admits(sent.get("authorization"), sent.get("traceparent")):
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "It may not.")
        return request

    await serve_grpc(place, say)


@asynccontextmanager
async def _ask_grpcio(place: str) -> AsyncIterator[Ask]:
    import grpc

    token, ids, guarded = _token(), RandomIds(), _Guarded()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{place}") as channel:
        say = channel.unary_unary(METHOD, request_serializer=encode, response_deserializer=decode)

        async def ask(said: Said) -> Any:
            trace = new_trace(ids, TRACE).traceparent
            sent = (("authorization", token), ("traceparent", trace))
            return await say(said, timeout=TIMEOUT_S, metadata=sent)

        yield partial(guarded.call, ask)


SIDES: dict[str, tuple[Any, Any]] = {
    "frames, equipped": (_serve_frames, _ask_frames),
    "aiohttp, equipped": (_serve_aiohttp, _ask_aiohttp),
    "grpcio aio, equipped": (_serve_grpcio, _ask_grpcio),
}
