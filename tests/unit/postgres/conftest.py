"""A module's store on a fresh database, straight and through a proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.postgres.bench import Bench, opened
from tests.unit.postgres.proxy import Proxy


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    """Straight to the server."""
    async with opened(postgres_url) as made:
        yield made


@pytest.fixture
async def proxy(postgres_url: str) -> AsyncIterator[Proxy]:
    """Before the server, listening."""
    made = Proxy(postgres_url)
    made.url = await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def proxied(postgres_url: str, proxy: Proxy) -> AsyncIterator[Bench]:
    """Through the proxy, on one connection: none that is opened beside it is counted."""
    async with opened(postgres_url):
        pass
    async with opened(proxy.url, make=False, size=1) as made:
        yield made
