"""A database that tests use again is as a new one."""

from __future__ import annotations

import contextlib

import asyncpg
import pytest

from tenfold.runtimes.local_servers.replica import query
from tests.databases import drop_spares, fresh_database

pytestmark = pytest.mark.anyio

CATALOGUE = """
SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_proc),
    (SELECT count(*) FROM pg_type), (SELECT array_agg(nspname ORDER BY nspname) FROM pg_namespace
        WHERE nspname !~ '^pg_(toast_)?temp_')
"""


@pytest.fixture
def server(postgres_server: str) -> str:
    # One of its own, as far as what is kept for later is concerned.
    return f"{postgres_server}?application_name=databases"


async def test_a_database_is_used_again_and_nothing_is_left_in_it(server: str) -> None:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fresh_database(server))
        new = query(url, CATALOGUE)
        held = await asyncpg.connect(url)
        await held.execute("CREATE SCHEMA stock CREATE TABLE things (id serial PRIMARY KEY)")
        await held.execute("CREATE FUNCTION stock.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
        await held.execute("BEGIN; LOCK TABLE stock.things")
        stack.callback(held.terminate)
    with fresh_database(server) as again:
        assert again == url
        assert query(again, CATALOGUE) == new
    drop_spares(server)


@pytest.mark.parametrize(
    "left",
    [
        "CREATE TABLE public.t (a int)",
        "CREATE EXTENSION pageinspect",
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET work_mem=64'; END $$",
        "CREATE PUBLICATION p",
    ],
)
async def test_one_that_cannot_be_emptied_is_dropped(server: str, left: str) -> None:
    with fresh_database(server) as url:
        try:
            query(url, left)
        except asyncpg.FeatureNotSupportedError:
            pytest.skip("this server has no such extension")
    with fresh_database(server) as another:
        assert another != url
    drop_spares(server)
