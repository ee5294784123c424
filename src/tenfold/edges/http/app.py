"""The HTTP edge: a product's contracts as an ASGI 3 application."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from tenfold.contracts.contract import OperationSpec
from tenfold.contracts.errors import OverloadedError
from tenfold.edges.http.asgi import ASGIApp, Headers, Receive, Scope, Send
from tenfold.edges.http.cors import Cors
from tenfold.edges.http.endpoint import Endpoint
from tenfold.edges.http.errors import MethodNotAllowedError, RouteNotFoundError
from tenfold.edges.http.exchange import Answer, ClientGoneError, Exchange
from tenfold.edges.http.forms import problem_form
from tenfold.edges.http.mounts import MountFailedError, Mounts
from tenfold.edges.http.pages import Pages
from tenfold.edges.http.problems import problem_of
from tenfold.edges.http.replies import problem_answer
from tenfold.edges.http.routes import Place, Routes, add_operation
from tenfold.edges.http.settings import HttpProduct, ReadinessState
from tenfold.path.entry import Entry

__all__ = ["http_app"]

_Serve = Callable[[Exchange, Sequence[str]], Awaitable[Answer]]


def http_app(entry: Entry, product: HttpProduct) -> ASGIApp:
    """Serve a product over HTTP, on any ASGI server.

    The routes are those of the contracts; beside them the platform serves
    `/openapi.json`, `/docs`, `/problems/{code}`, `/metrics`, `/_tenfold/live`
    and `/_tenfold/ready`. A mount gets what none of them answers.

    Raises: ContractError where two routes are one, or one cannot be served.
    """
    return _HttpEdge(entry, product)


class _Target:
    """What is served at one place for one method, and what it is called in the metrics."""

    __slots__ = ("bounded", "label", "serve")

    def __init__(self, label: str, serve: _Serve, *, bounded: bool) -> None:
        self.label = label
        self.serve = serve
        self.bounded = bounded


def _operation(name: str, spec: OperationSpec, product: HttpProduct, entry: Entry) -> _Target:
    return _Target(name, Endpoint(name, spec, product, entry).answer, bounded=True)


class _HttpEdge:
    """The application itself. All requests share it; it keeps only how many are in progress."""

    def __init__(self, entry: Entry, product: HttpProduct) -> None:
        self._product = product
        self._settings = product.settings
        self._mounts = Mounts(
            product.mounts,
            lambda: product.readiness() is ReadinessState.DRAINING,
            positions=product.settings.position_cookies,
        )
        self._cors = Cors(product.settings) if product.settings.allowed_origins else None
        self._routes: Routes[_Target] = Routes()
        self._in_progress = 0
        self._in_mounts = 0
        self._beginnings: set[bytes] = set()
        """First segments of the contracts' paths, such as `v1`."""
        pages = Pages(product)
        for path, page in pages.routes.items():
            self._routes.add("GET", path, _Target("edge.page", page, bounded=False), "Tenfold")
        for name, spec in product.routed().items():
            add_operation(self._routes, spec, partial(_operation, name, spec, product, entry))
            self._beginnings.add((spec.declaration.path or "").split("/")[1].encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            exchange = Exchange(scope, receive, self._product.ids)
            try:
                await self._http(exchange, send)
            finally:
                exchange.uncount()
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        elif not await self._mounts.serve(scope, receive, send, _path(scope)):
            # A websocket that nothing serves: closing before accepting answers 403.
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, exchange: Exchange, send: Send) -> None:
        product = self._product
        started = product.clock.monotonic()
        label, mounted = "edge", False
        try:
            exchange.check(self._settings)
            place, values = self._routes.find(exchange.raw_path)
            if exchange.raw_path == b"*" and exchange.method == "OPTIONS":
                answer = Answer(204, [], b"")  # of the server as a whole (RFC 9110, 9.3.7)
            elif place is None:
                exchange.uncount()
                self._admit(self._in_mounts)
                mounted = True
                if await self._mount(exchange, send):
                    return
                mounted = False
                raise RouteNotFoundError(
                    f"Nothing is served at {exchange.raw_path[:200].decode('latin-1')}. "
                    "/docs lists what is."
                )
            elif (target := place.methods.get(exchange.method)) is None:
                answer = self._other_method(exchange, place)
            else:
                label = target.label
                answer = await self._serve(target, exchange, values)
        except ClientGoneError:
            product.edge.observe(label, "cancelled", product.clock.monotonic() - started)
            return
        except CancelledError:
            product.edge.observe(label, "cancelled", product.clock.monotonic() - started)
            raise
        except Exception as error:
            if mounted:
                # It may have begun its answer: the server closes the connection.
                raise
            problem = problem_of(error, exchange.trace.trace_id)
            answer = problem_answer(problem, problem_form(exchange.headers.get(b"accept")))
        await self._send(answer, exchange, send)
        product.edge.observe(label, answer.label, product.clock.monotonic() - started)

    async def _mount(self, exchange: Exchange, send: Send) -> bool:
        """Let a mount answer; False where none did.

        A mount also gets what resembles a route and is none. Where it answers 404
        with a page or a text, which is for people, a program is told by a problem.
        """
        self._in_mounts += 1
        try:
            return await self._serve_mount(exchange, send)
        finally:
            self._in_mounts -= 1

    async def _serve_mount(self, exchange: Exchange, send: Send) -> bool:
        path = _path(exchange.scope)
        beginning = exchange.raw_path[1:].partition(b"/")[0]
        if beginning not in self._beginnings or b"text/html" in exchange.headers.get(
            b"accept", b""
        ):
            return await self._mounts.serve(exchange.scope, exchange.receive, send, path)
        held = _HeldNotFound(send)
        served = await self._mounts.serve(exchange.scope, exchange.receive, held, path)
        return served and not held.found_nothing

    async def _serve(self, target: _Target, exchange: Exchange, values: Sequence[str]) -> Answer:
        if not target.bounded:
            exchange.uncount()
            return await target.serve(exchange, values)
        self._admit(self._in_progress)
        self._in_progress += 1
        try:
            return await target.serve(exchange, values)
        finally:
            self._in_progress -= 1

    def _admit(self, in_progress: int) -> None:
        # Mounts are counted apart: pages that are followed for minutes leave room for calls.
        if in_progress >= self._settings.max_concurrent:
            raise OverloadedError(
                f"{in_progress} requests are in progress, which is the most that are "
                "admitted at once. Nothing was begun; send it again a little later."
            )

    def _other_method(self, exchange: Exchange, place: Place[_Target]) -> Answer:
        if exchange.method != "OPTIONS":
            path = exchange.raw_path[:200].decode("latin-1")
            raise MethodNotAllowedError(exchange.method[:20], path, place.allowed)
        headers: Headers = [(b"allow", ", ".join(place.allowed).encode("ascii"))]
        if self._cors is not None:
            headers += self._cors.preflight(exchange.headers, place.allowed)
        return Answer(204, headers, b"")

    async def _send(self, answer: Answer, exchange: Exchange, send: Send) -> None:
        headers = answer.headers
        headers.append((b"tenfold-trace-id", exchange.trace.trace_id.encode("ascii")))
        if self._cors is not None:
            headers += self._cors.headers(exchange.headers)
        body = b"" if exchange.method == "HEAD" else answer.body
        direct = exchange.direct
        if direct is not None and direct.answer(answer.status, headers, body):
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            begins = kind == "lifespan.startup"
            try:
                await (self._mounts.start() if begins else self._mounts.stop())
            except MountFailedError as error:
                await send({"type": f"{kind}.failed", "message": str(error)})
                return
            await send({"type": f"{kind}.complete"})
            if not begins:
                return


class _HeldNotFound:
    """Passes on what an application sends, but for a 404 that is written for people."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.found_nothing = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            is_text = headers.get(b"content-type", b"text/plain").startswith(b"text/")
            self.found_nothing = message["status"] == 404 and is_text
        if not self.found_nothing:
            await self._send(message)


def _path(scope: Scope) -> str:
    """The decoded path of a request, without the prefix under which the product is mounted."""
    path: Any = scope["path"]
    return str(path).removeprefix(scope.get("root_path", "")) or "/"
