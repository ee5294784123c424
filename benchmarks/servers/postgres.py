"""Servers for a benchmark: those that are named, or some of this machine's own."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from tenfold.runtimes.local_servers.start import start_local_servers
from tenfold.runtimes.local_servers.wanted import ServerWants

__all__ = ["fresh_database", "postgres_server", "queue_servers"]


@contextmanager
def postgres_server() -> Iterator[str]:
    """The server at TENFOLD_TEST_POSTGRES_URL, else a durable one that is started; its URL."""
    with _servers(valkey=False) as (database, _):
        yield database


@contextmanager
def queue_servers() -> Iterator[tuple[str, str]]:
    """PostgreSQL, and the Valkey at TENFOLD_TEST_VALKEY_URL, or one that is started; their URLs."""
    with _servers(valkey=True) as urls:
        yield urls


@contextmanager
def _servers(*, valkey: bool) -> Iterator[tuple[str, str]]:
    database = os.environ.get("TENFOLD_TEST_POSTGRES_URL", "")
    cache = os.environ.get("TENFOLD_TEST_VALKEY_URL", "")
    if database and (cache or not valkey):
        yield database, cache
        return
    wants = ServerWants(postgres=not database, valkey=valkey and not cache, discard=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        start_local_servers(Path(folder), wants, {}) as servers,
    ):
        urls = servers.urls
        yield database or urls.database_url, cache or urls.cache_url or ""


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """An empty database on a server, dropped after the block; its URL."""
    name = f"tenfold_bench_{secrets.token_hex(4)}"
    _run(server, f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        _run(server, f"DROP DATABASE {name} WITH (FORCE)")


def _run(url: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(run())
