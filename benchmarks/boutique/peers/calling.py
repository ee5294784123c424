"""How the FastAPI services are built, and how they call each other: pooled, as JSON.

BENCH_PLACES says at which port each service is, as JSON.
"""

import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import aiohttp
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, TypeAdapter

__all__ = ["Calls", "service"]

_T = TypeVar("_T")
_M = TypeVar("_M", bound=BaseModel)
_JSON = {"content-type": "application/json"}


class Calls:
    """One pooled client for all other services."""

    def __init__(self) -> None:
        places = json.loads(os.environ.get("BENCH_PLACES", "{}"))
        self._urls = {name: f"http://127.0.0.1:{port}" for name, port in places.items()}
        self._session: aiohttp.ClientSession

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Hold the connections, as many as are needed, for as long as the service runs."""
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as self._session:
            yield

    async def get(self, service: str, path: str, as_: TypeAdapter[_T]) -> _T:
        """What a service answers."""
        async with self._session.get(self._urls[service] + path) as answer:
            return as_.validate_json(await _body(answer))

    async def get_one(self, service: str, path: str, as_: type[_M]) -> _M:
        """The same of one model."""
        async with self._session.get(self._urls[service] + path) as answer:
            return as_.model_validate_json(await _body(answer))

    async def post(self, service: str, path: str, body: BaseModel, as_: TypeAdapter[_T]) -> _T:
        """What a service answers to a body."""
        return as_.validate_json(await self.send("POST", service, path, body))

    async def post_for_one(self, service: str, path: str, body: BaseModel, as_: type[_M]) -> _M:
        """The same of one model."""
        return as_.model_validate_json(await self.send("POST", service, path, body))

    async def send(
        self, method: str, service: str, path: str, body: BaseModel | None = None
    ) -> bytes:
        """The body of what a service answers."""
        data = None if body is None else body.model_dump_json().encode()
        headers = None if body is None else _JSON
        url = self._urls[service] + path
        async with self._session.request(method, url, data=data, headers=headers) as answer:
            return await _body(answer)


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = await answer.read()
    if answer.status >= 400:
        raise HTTPException(answer.status, json.loads(body)["detail"])
    return body


def service(
    *resources: Callable[[], AbstractAsyncContextManager[Any]],
) -> FastAPI:
    """An application that holds some resources while it runs, and says when it is ready."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for resource in resources:
                await stack.enter_async_context(resource())
            yield

    app = FastAPI(lifespan=lifespan)

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Whether it serves."""
        return {}

    return app
